"use strict";
(() => {
  const by = (id) => document.getElementById(id);
  const make = (name, classes, text) => {
    const node = document.createElement(name);
    if (classes) node.className = classes;
    if (text !== undefined) node.textContent = text;
    return node;
  };

  // Tables: a click on a header sorts, a second one turns the order; undefined values stay last.
  for (const table of document.querySelectorAll("table.sortable")) {
    const headers = [...table.tHead.rows[0].cells];
    headers.forEach((header, column) => header.querySelector("button").addEventListener("click", () => {
      const down = header.getAttribute("aria-sort") === "ascending";
      headers.forEach((other) => other.removeAttribute("aria-sort"));
      header.setAttribute("aria-sort", down ? "descending" : "ascending");
      const key = (row) => row.cells[column].dataset.key;
      const rows = [...table.tBodies[0].rows].sort((a, b) => {
        const [x, y] = [key(a), key(b)];
        if (x === "" || y === "") return (x === "") - (y === "");
        const [p, q] = [Number(x), Number(y)];
        const order = Number.isNaN(p) || Number.isNaN(q) ? x.localeCompare(y) : p - q;
        return down ? -order : order;
      });
      table.tBodies[0].append(...rows);
      const said = table.closest("section").querySelector(".sorted");
      if (said) said.textContent = `sorted by ${header.textContent}, ${down ? "greatest" : "smallest"} first`;
    }));
  }
  const filter = by("filter");
  const quadrants = [...document.querySelectorAll("input[data-quadrant]")];
  const narrow = () => {
    const wanted = filter.value.trim().toLowerCase().split(/\s+/);
    const chosen = new Set(quadrants.filter((one) => one.checked).map((one) => one.dataset.quadrant));
    let shown = 0;
    for (const row of by("main").tBodies[0].rows) {
      const words = row.dataset.filter.toLowerCase();
      row.hidden = !chosen.has(row.dataset.quadrant) || !wanted.every((word) => words.includes(word));
      shown += !row.hidden;
    }
    by("count").textContent = shown === 1 ? "1 method" : `${shown} methods`;
  };
  for (const one of [filter, ...quadrants]) one.addEventListener("input", narrow);
  narrow();
  const all = by("all-columns");
  if (all) all.addEventListener("input", () => by("main").classList.toggle("short", !all.checked));

  // The guideline: the same arithmetic as bench.advice.
  const UNIT = 1024, MARGIN = 0.05, PAPER = {a: 1.17e4, b: 0.46, c: 0.40, d: 4.55};
  const FORMS = ["law", "constant", "log-linear"];
  const inverse = (form, constants, budget, prefix, length) => {
    if (form === "constant") return constants.a;
    const [c, p, t] = [budget, prefix, length].map((value) => Math.log(value / UNIT));
    const line = constants.b * c + constants.c * p - constants.d * t;
    return form === "law" ? constants.a * Math.exp(line) : Math.max(1, constants.a + line);
  };
  const rule = (guideline, name) => guideline.regrets.find((one) => one.rule === name);
  const regret = (guideline, name) => rule(guideline, name).held_out;
  const nearest = (guideline, budget, prefix, length) => {
    const away = (one) => Math.log(one.budget / budget) ** 2 + Math.log(one.prefix / prefix) ** 2
      + Math.log(one.task_length / length) ** 2;
    return guideline.optima.reduce((best, one) => (away(one) < away(best) ? one : best));
  };
  const roundHalfEven = (value) => {
    const floor = Math.floor(value), rest = value - floor;
    if (rest !== 0.5) return Math.round(value);
    return floor % 2 === 0 ? floor : floor + 1;
  };
  const advise = (guidelines, budget, prefix, length, method) => {
    const chosen = guidelines.filter((one) => !method || one.method === method);
    if (prefix > length) {
      return {refused: `a prefix of ${Math.round(prefix)} tokens is longer than the mean path of ${Math.round(length)} tokens.`};
    }
    const ranges = [["budget", budget, chosen[0].budgets], ["prefix", prefix, chosen[0].prefixes],
      ["task-length", length, Object.values(chosen[0].lengths)]];
    for (const [name, value, measured] of ranges) {
      const [low, high] = [Math.min(...measured), Math.max(...measured)];
      if (value < low * (1 - MARGIN) || value > high * (1 + MARGIN)) {
        return {refused: `${name} ${Math.round(value)} lies outside what was measured (${Math.round(low)} to ${Math.round(high)} tokens); the guideline does not extrapolate.`};
      }
    }
    const formOf = (guideline) => (
      FORMS.reduce((one, other) => (regret(guideline, other).mean < regret(guideline, one).mean ? other : one)));
    const gained = (guideline) => rule(guideline, formOf(guideline)).gain.mean;
    const best = chosen.reduce((one, other) => (gained(other) > gained(one) ? other : one));
    const form = formOf(best);
    const fit = best.fits.find((one) => one.form === form);
    const constants = Object.fromEntries(Object.entries(fit.constants).map(([name, one]) => [name, one.mean]));
    const value = inverse(form, constants, budget, prefix, length);
    if (value < 1) return {refused: `1/γ = ${value.toPrecision(2)}: a retention ratio above 1; at this budget do not prune.`};
    const gamma = 1 / value, smallest = Math.min(...best.gammas);
    if (gamma < smallest * (1 - MARGIN)) {
      return {refused: `γ = ${gamma.toPrecision(2)}: below ${smallest}, the smallest ratio that was swept.`};
    }
    const n = Math.max(1, Math.floor(budget / (prefix + gamma * (length - prefix))));
    return {method: best.method, form, gamma, n, k: Math.max(1, roundHalfEven(gamma * n)), whole: Math.max(1, Math.floor(budget / length)),
      nearest: nearest(best, budget, prefix, length), regret: regret(best, form), gain: rule(best, form).gain};
  };
  const held = by("guidelines");
  if (held) {
    const guidelines = JSON.parse(held.textContent);
    window.prunebench = {advise: (...asked) => advise(guidelines, ...asked)};
    const method = by("g-method");
    method.append(new Option("the best one", ""), ...guidelines.map((one) => new Option(one.method, one.method)));
    const lengths = Object.values(guidelines[0].lengths);
    const sliders = [["g-budget", guidelines[0].budgets], ["g-prefix", guidelines[0].prefixes], ["g-length", lengths]];
    for (const [id, values] of sliders) {
      const [low, high] = [Math.min(...values), Math.max(...values)];
      const logarithmic = id === "g-budget";
      by(id).min = logarithmic ? Math.log2(low) : Math.ceil(low);
      by(id).max = logarithmic ? Math.log2(high) : Math.floor(high);
      by(id).value = logarithmic ? (Math.log2(low) + Math.log2(high)) / 2 : (low + high) / 2;
    }
    const signed = (value) => (value >= 0 ? "+" : "−") + Math.abs(value).toFixed(1);
    const answer = () => {
      const budget = 2 ** Number(by("g-budget").value);
      const [prefix, length] = [Number(by("g-prefix").value), Number(by("g-length").value)];
      by("g-budget-out").value = Math.round(budget).toLocaleString("en");
      by("g-prefix-out").value = prefix;
      by("g-length-out").value = length;
      const found = advise(guidelines, budget, prefix, length, method.value);
      if (found.refused) {
        by("g-answer").textContent = `No answer: ${found.refused}`;
        by("g-ground").textContent = "";
        return;
      }
      const {gain, nearest: near} = found;
      const ratio = `N = ${found.n} prefixes, keep k = ${found.k} (γ = ${found.gamma.toPrecision(3)}) by ${found.method}`;
      const gains = gain.low > 0;
      by("g-answer").textContent = gains ? `Sample ${ratio}.` : `Do not prune by ${found.method}: sample N = ${found.whole} whole paths and keep all.`;
      by("g-ground").textContent = `${gains ? "" : `Its best ratio is no gain to count on (${ratio}). `}On held-out problems, mean of all budgets and lengths, following it changed the vote by ${signed(gain.mean)} points [${signed(gain.low)}, ${signed(gain.high)}] against keeping all at the same budget. Measured nearby (${near.task}, prefix ${near.prefix}, budget ${near.budget}) γ = ${near.gamma} was best. The ${found.form} form lost ${found.regret.mean.toFixed(1)} [${found.regret.low.toFixed(1)}, ${found.regret.high.toFixed(1)}] points against the best ratio on held-out problems.`;
    };
    for (const id of ["g-method", "g-budget", "g-prefix", "g-length"]) by(id).addEventListener("input", answer);
    answer();
  }

  // The path explorer.
  const data = by("paths-data");
  const unpack = async (text) => {
    const bytes = Uint8Array.from(atob(text.trim()), (one) => one.charCodeAt(0));
    const stream = new Blob([bytes]).stream().pipeThrough(new DecompressionStream("gzip"));
    return JSON.parse(await new Response(stream).text());
  };
  const explore = (told) => {
    const [problem, method, order] = [by("e-problem"), by("e-method"), by("e-order")];
    told.problems.forEach((one, index) => problem.append(new Option(`${one.task} ${one.id}`, index)));
    const names = Object.keys(told.problems[0].methods);
    names.sort().forEach((name) => method.append(new Option(name, name)));
    if (names.includes("stop")) method.value = "stop";
    const rows = by("e-rows"), text = by("e-text");

    const verdict = (one) => (one.correct === null ? "not graded" : one.correct ? "right" : "wrong");
    const classes = {right: "right", wrong: "wrong", "not graded": "ungraded"};
    // Kept is what votes. A path that is not kept may still be whole: it ended before the check.
    const fate = (one, decision, index) => {
      const end = Math.min(decision.decoded[index], one.length);
      if (decision.kept[index] === "1") return end < one.length ? `kept, stopped to vote at ${end}` : "kept";
      return end < one.length ? `pruned at ${end}` : "not kept, ended by then";
    };

    const open = (one, decision, index) => {
      text.replaceChildren();
      const end = Math.min(decision.decoded[index], one.length);
      text.append(make("h3", "", `Path ${one.n}: ${verdict(one)}, answer ${one.answer ?? "none"}, ${one.length} tokens, ${fate(one, decision, index)}`));
      const body = make("div");
      const characters = Array.from(one.text);  // sizes count code points, as Python does, not UTF-16 units
      if (one.ends) {
        let at = 0;
        one.ends.forEach((size, token) => {
          if (token === told.checkpoint) body.append(make("span", "mark", `▸check at ${told.checkpoint}`));
          if (token === end) body.append(make("span", "mark", `▸${fate(one, decision, index)}`));
          const piece = make("span", token >= end ? "after" : "", characters.slice(at, at + size).join(""));
          const doubt = 9 - Number(one.sure[token]);
          if (doubt > 1) piece.style.background = `rgba(217, 95, 14, ${(doubt / 14).toFixed(2)})`;
          piece.title = `probability ${(Number(one.sure[token]) / 10).toFixed(1)} or more`;
          body.append(piece);
          at += size;
        });
      } else {
        body.append(make("span", "", one.text));
      }
      text.append(body);
      text.hidden = false;
      text.focus({preventScroll: false});
    };

    const rank = (one) => (one.correct === null ? 0.5 : Number(one.correct));
    const show = () => {
      const chosen = told.problems[Number(problem.value)], decision = chosen.methods[method.value];
      text.hidden = true;
      by("e-prompt").textContent = `${chosen.prompt.trim()}   (answer: ${chosen.gold})`;
      const longest = Math.max(...chosen.paths.map((one) => one.length));
      const all = chosen.paths.reduce((sum, one) => sum + one.length, 0);
      const decoded = decision.decoded.reduce((sum, one) => sum + one, 0);
      by("e-saved").textContent = ` · ${decoded.toLocaleString("en")} of ${all.toLocaleString("en")} tokens decoded`;
      const indices = chosen.paths.map((_, index) => index);
      const score = (index) => decision.score[index] ?? -Infinity;
      if (order.value === "score") indices.sort((a, b) => score(b) - score(a));
      if (order.value === "outcome") indices.sort((a, b) => rank(chosen.paths[b]) - rank(chosen.paths[a]));
      rows.replaceChildren(...indices.map((index) => {
        const one = chosen.paths[index], end = Math.min(decision.decoded[index], one.length);
        const button = make("button");
        button.type = "button";
        const outcome = classes[verdict(one)], value = decision.score[index];
        const track = make("span", "track");
        const part = (classes, from, to) => {
          const bar = make("span", classes);
          bar.style.left = `${(100 * from) / longest}%`;
          bar.style.width = `${(100 * (to - from)) / longest}%`;
          track.append(bar);
        };
        part(`bar ${outcome}`, 0, end);
        if (end < one.length) part(`rest ${outcome}`, end, one.length);
        const check = make("span", "check");
        check.style.left = `${(100 * Math.min(told.checkpoint, longest)) / longest}%`;
        track.append(check);
        const spoken = `, ${verdict(one)}, ${one.length} tokens, ${fate(one, decision, index)}`;
        if (decision.kept[index] === "1") button.classList.add("kept");
        button.append(make("span", "n", one.n), track, make("span", "s", value === null ? "–" : value.toPrecision(3)),
          make("span", "spoken", spoken));
        button.addEventListener("click", () => open(one, decision, index));
        const item = make("li");
        item.append(button);
        return item;
      }));
    };
    for (const one of [problem, method, order]) one.addEventListener("change", show);
    show();
    document.body.dataset.ready = "yes";
  };
  if (data) unpack(data.textContent).then(explore);
  else document.body.dataset.ready = "yes";
})();
