// The page "Watch an episode": plays recorded orders on test scenarios, and levels that the reader sets (chain.js).
"use strict";
(async () => {
  const find = (selector, from = document) => from.querySelector(selector);
  const each = (selector, act) => document.querySelectorAll(selector).forEach(act);
  const on = (selector, kind, act) => each(selector, (element) => element.addEventListener(kind, act));
  const chains = JSON.parse(find("#watch-data").textContent), names = Object.keys(chains);
  const [stage, lanes, race, time] = [".w-stage", ".w-lanes", ".w-race", ".w-time"].map((name) => find(name));
  const number = (form) => new Intl.NumberFormat("en-US", form).format, four = { maximumSignificantDigits: 4 };
  const [whole, plain, compact] = [{ maximumFractionDigits: 0 }, four, { ...four, notation: "compact" }].map(number);
  const short = (x) => (x > 99999 ? compact : plain)(x);
  const said = '<output aria-live="off"></output>'; // it changes all the time: read by who asks, not announced
  const sum = (values) => values.reduce((a, b) => a + b, 0), mean = (values) => sum(values) / values.length;
  const html = (strings, ...values) => strings.map((s, i) => s + [values[i] ?? ""].flat().join("")).join("");
  const options = (texts) => texts.map((text, i) => html`<option value="${i}">${text}</option>`).join("");
  const view = { env: 0, episode: 0, policy: 3, time: 0, timer: 0 };
  let chain, runs, most, limit; // the environment; frames of every policy; highest stock, debt and order; highest cost

  async function unpack({ data, per }) { // packed numbers: a function that gives a row of so many
    const bytes = Uint8Array.from(atob(data), (letter) => letter.charCodeAt(0));
    const stream = new Blob([bytes]).stream().pipeThrough(new DecompressionStream("deflate"));
    const numbers = new Uint16Array(await new Response(stream).arrayBuffer());
    return (row, count) => Array.from(numbers.subarray(row * count, (row + 1) * count), (n) => n / per);
  }

  const open = (found) => (found.opened ??= unpackAll(found)); // when it is first shown
  async function unpackAll(found) {
    const { nodes, periods, policies, rule, draws } = found, counts = { demand: nodes.length - 1, lead: nodes.length };
    const fields = await Promise.all(Object.entries(draws).map(async ([key, packed]) => {
      const read = await unpack(packed);
      return [key, counts[key] ? (row) => read(row, counts[key]) : (row) => read(row, 1)[0]];
    }));
    const at = (row) => ({ supply: Infinity, outbound: Infinity,
      ...Object.fromEntries(fields.map(([key, read]) => [key, read(row)])) });
    for (const policy of policies) {
      const read = await unpack(policy.orders);
      policy.decide = (episode) => (_, t) => read(episode * periods + t, nodes.length);
    }
    found.levels = rule.levels.map((level) => level.value);
    policies.push({ name: "your levels", yours: true, decide: () => Chain.rule(found, found.levels) });
    found.now = Array.from({ length: found.scenarios }, (_, e) =>
      Array.from({ length: periods }, (_, t) => at(e * periods + t)));
    found.textbook = tried(found).costs;
    return found;
  }

  function record(policy) { // its frames on the episode
    const frames = [];
    Chain.play(chain, chain.now[view.episode], policy.decide(view.episode), (s, { ordered }, total) =>
      frames.push({ stock: [...s.stock], owed: [0, ...s.owed], due: s.due.map((slots) => [...slots]), orders: ordered,
        cost: total.cost / chain.costUnit }));
    return frames;
  }

  function tried(found) { // the reader's levels on all scenarios
    const totals = found.now.map((now) => Chain.play(found, now, Chain.rule(found, found.levels)));
    return { costs: totals.map((x) => x.cost / found.costUnit), fill: mean(totals.map((x) => x.filled / x.demand)) };
  }

  const line = (values) => values.map((y, t) => `${t ? "L" : "M"}${t} ${(-y).toFixed(2)}`).join("");
  const path = (kind, d, style = "") => html`<path class="w-${kind}" d="${d}" style="${style}"/>`;
  const area = (kind, values) => path(kind, `M0 0L${line(values).slice(1)}L${values.length - 1} 0Z`);
  const sticks = (values) => path("order", values.map((y, t) => (y ? `M${t} 0V${(-y).toFixed(2)}` : "")).join(""));
  const chart = (top, bottom, body) => html`<svg preserveAspectRatio="none" aria-hidden="true"
    viewBox="0 ${-top} ${chain.periods - 1} ${top + bottom}">${body}</svg>`;
  const lane = (title, charts, top) => html`<div class="w-lane"><div class="w-label"><b>${title}</b> ${said}
    </div><div class="w-chart"><small>${short(top)}</small>${charts}</div></div>`;
  const row = (name, i) => html`<span>${name}</span><i><u style="background: var(--w-c${i})"></u></i>${said}`;
  const fill = (item, cost, top) => {
    find("u", item).style.width = `${Math.min(100, (100 * cost) / top)}%`;
    find("output", item).textContent = short(cost);
  };

  function draw() { // what does not change with time
    const frames = runs[view.policy], group = (i, values) => (i ? values.slice(1) : [values[0]]);
    const shown = runs.filter((_, i) => i > 1 || i === view.policy); // who orders next to nothing may leave the picture
    const highest = (i) => (key) => Math.max(1e-9, ...shown.flat().map((f) => Math.max(...group(i, f[key]))));
    most = chain.nodes.map((_, i) => ["stock", "owed", "orders"].map(highest(i)));
    limit = 1.05 * Math.max(...shown.map((f) => f.at(-1).cost));
    const asked = chain.now[view.episode].map((now) => sum(now.demand)), peak = Math.max(...asked);
    const cost = (f, i, kind) => path(kind, line(f.map((x) => Math.min(x.cost, 2 * limit))), `stroke: var(--w-c${i})`);
    const costs = [...runs.map((f, i) => cost(f, i, "cost")), cost(frames, view.policy, "cost w-on")];
    lanes.innerHTML = [lane("customers ask", chart(peak, 0, area("ask", asked)), peak),
      ...chain.nodes.map((node, i) => lane(node, chart(most[i][0], i && Math.max(most[i][1], most[i][0] / 20),
        area("stock", frames.map((f) => f.stock[i])) + area("owed", frames.map((f) => -f.owed[i])))
        + chart(most[i][2], 0, sticks(frames.map((f) => f.orders[i]))), most[i][0])),
      lane("cost so far", chart(limit, 0, costs), limit)].join("");
    show();
  }

  function show() { // what does
    const t = Math.floor(view.time), frame = runs[view.policy][t], policy = chain.policies[view.policy].name;
    const clock = `${chain.period} ${t + 1} of ${chain.periods}`;
    const facts = chain.nodes.map((_, i) => `${whole(frame.stock[i])} on hand, orders ${whole(frame.orders[i])}`
      + (i ? `, owes ${whole(frame.owed[i])}` : ""));
    const asked = whole(sum(chain.now[view.episode][t].demand)), cost = `${short(frame.cost)} [${chain.unit}]`;
    each(".w-lanes output", (output, i) => { output.textContent = [asked, ...facts, cost][i]; });
    each(".w-race label", (label, i) => fill(label, runs[i][t].cost, limit));
    lanes.style.setProperty("--at", `${(100 * t) / (chain.periods - 1)}%`);
    Object.assign(time, { value: t, ariaValueText: clock });
    Object.assign(find(".w-clock"), { textContent: clock, ariaLive: "off" });
    stage.innerHTML = scene(frame, view.timer ? view.time - t : 0.5);
    stage.ariaLabel = chain.nodes.map((node, i) => `${node}: ${facts[i]}`).join("; ");
    if (!view.timer) find("#watch .w-say").textContent = `Under "${policy}", ${clock}: cost so far ${cost}.`;
  }

  function scene(frame, passed) { // tanks of stock, what is owed below them, and shipments on their way as dots
    const dots = (i, x, y, from) => frame.due[i].map((units, k) => {
      const gone = 1 - Math.sqrt(Math.max(0, k + 1 - passed) / chain.parameters.longest);
      return units > 0.5 ? html`<circle cx="${180 + (x - 180) * gone}" cy="${from + (y - from) * gone}"
        r="${2.5 + 5 * Math.sqrt(units / most[i][2])}"/>` : "";
    });
    return html`<text x="180" y="14">${chain.source}</text>` + chain.nodes.map((node, i) => {
      const [x, y, from] = i ? [(360 * (i - 0.5)) / (chain.nodes.length - 1), 176, 122] : [180, 58, 20];
      const high = (64 * frame.stock[i]) / most[i][0], low = (38 * frame.owed[i]) / most[i][1];
      return html`<line x1="180" y1="${from}" x2="${x}" y2="${y}"/>${dots(i, x, y, from)}
        <rect class="w-tank${frame.orders[i] > 0 ? " w-on" : ""}" x="${x - 48}" y="${y}" width="96" height="64" rx="5"/>
        <rect class="w-stock" x="${x - 47}" y="${y + 64 - high}" width="94" height="${high}" rx="4"/>
        <rect class="w-owed" x="${x - 47}" y="${y + 66}" width="94" height="${low}" rx="2"/>
        <text x="${x}" y="${y + 30}" class="w-number">${whole(frame.stock[i])}</text>
        <text x="${x}" y="${y + 50}">${node}</text>
        <text x="${x}" y="${y + 82}">${frame.owed[i] > 0.5 ? `owes ${whole(frame.owed[i])}` : ""}</text>`;
    }).join("");
  }

  const seek = (to) => show((view.time = Math.max(0, Math.min(chain.periods - 1, to))));

  function play(on) { // who wants less motion sees two pictures a second
    const pause = matchMedia("(prefers-reduced-motion: reduce)").matches ? 0.5 : 0.04;
    const over = () => view.time >= chain.periods - 1; // a chain that is shorter may come while this one plays
    view.timer = clearInterval(view.timer);
    find(".w-play").textContent = on ? "Pause" : "Play";
    if (!on) return seek(Math.floor(view.time));
    if (over()) view.time = 0;
    view.timer = setInterval(() => {
      seek(view.time + pause * find(".w-speed").value);
      if (over()) play(false);
    }, 1000 * pause);
  }

  async function load() { // another environment or episode
    const wanted = view.env, found = await open(chains[names[wanted]]);
    if (wanted !== view.env) return; // the reader has gone on
    chain = found;
    runs = chain.policies.map(record);
    time.max = chain.periods - 1;
    view.time = Math.round(0.4 * chain.periods);
    each(".w-env", (select) => { select.value = view.env; });
    race.innerHTML = chain.policies.map(({ name }, i) => html`<label><input type="radio" name="w-policy" value="${i}"
      ${i === view.policy ? "checked" : ""}>${row(name, i)}</label>`).join("");
    set(chain.levels);
  }

  function set(values) {
    chain.levels = values;
    find(".w-levels").innerHTML = chain.rule.levels.map(({ name, low, high }, i) => html`<label>${name} ${said}
      <input type="range" aria-label="${name}" min="${Math.floor(low)}" max="${Math.ceil(high)}" value="${values[i]}"
      step="${high > 9999 ? 100 : 1}" data-level="${i}"></label>`).join("");
    judge();
  }

  function judge() { // plays the reader's levels, here and above
    const { costs, fill: filled } = tried(chain), cost = mean(costs), extra = 100 * (cost / mean(chain.textbook) - 1);
    const rows = chain.policies.map((p, i) => ({ mean: cost, fill: filled, ...p, i })).sort((a, b) => a.mean - b.mean);
    const top = 1.1 * Math.max(cost, ...rows.filter(({ i }) => i > 1).map((found) => found.mean));
    find(".w-board").innerHTML = rows.map(({ name, i, yours, fill: share }) => html`<li class="${yours ? "w-on" : ""}">
      ${row(name, i)}<small>${(100 * share).toFixed(0)} %</small></li>`).join("");
    each(".w-board li", (item, i) => fill(item, rows[i].mean, top));
    each(".w-levels output", (output, i) => { output.textContent = whole(chain.levels[i]); });
    const size = `${Math.abs(extra).toFixed(1)} % ${extra > 0 ? "more" : "less"} than`;
    const wins = costs.filter((x, i) => x < chain.textbook[i] * (1 - 1e-9)).length;
    find("#beat .w-say").textContent = `Your levels cost ${short(cost)} [${chain.unit}] an episode, `
      + `${Math.abs(extra) < 0.05 ? "as much as" : size} the textbook rule as tuned. They are cheaper on `
      + `${wins} of ${chain.scenarios} scenarios.`;
    runs[runs.length - 1] = record(chain.policies.at(-1));
    draw();
  }

  const drag = ({ target, buttons, clientX }) => {
    const box = buttons && target.closest(".w-chart")?.getBoundingClientRect();
    if (box) seek(Math.round(((clientX - box.left) / box.width) * (chain.periods - 1)));
  };
  ["env", "episode"].forEach((key) => on(`.w-${key}`, "change", ({ target }) =>
    load(play(false), (view[key] = +target.value))));
  on(".w-race", "change", ({ target }) => draw((view.policy = +target.value)));
  on(".w-play", "click", () => play(!view.timer));
  on(".w-time", "input", () => seek(+time.value));
  on(".w-time", "keydown", (event) => event.key === " " && (event.preventDefault(), play(!view.timer)));
  ["pointerdown", "pointermove"].forEach((kind) => on(".w-lanes", kind, drag));
  on(".w-levels", "input", ({ target }) => { chain.levels[target.dataset.level] = +target.value; judge(); });
  on(".w-tuned", "click", () => set(chain.rule.levels.map(({ value }) => value)));
  on(".w-shuffle", "click", () => set(chain.rule.levels.map(({ low, high }) =>
    Math.round(low + (high - low) * Math.random()))));
  on(".w-mine", "click", () => find("#watch").scrollIntoView(find("label:last-child input", race).click()));
  each(".w-env", (select) => { select.innerHTML = options(names); });
  find(".w-episode").innerHTML = options([...Array(chains[names[0]].episodes).keys()].map((i) => i + 1));
  await load();
  each("#watch, #beat, .w-wait", (part) => { part.hidden = !part.hidden; });
  find(":target")?.scrollIntoView(); // the player has pushed down what the link names
})();
