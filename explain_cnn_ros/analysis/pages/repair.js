const KIND_NAMES = { missed: "missed persons", false_alarm: "false alarms" };
const missing = "not recorded";
const recorded = (value) => (value === null || value === undefined ? missing : value);
const plural = (count, one, many) => `${count} ${count === 1 ? one : many}`;
/** Return an interval in percent; narrow ones have a decimal. */
function ends(low, high) {
  const digits = high - low < 0.1 ? 1 : 0;
  return `(${(100 * low).toFixed(digits)} to ${(100 * high).toFixed(digits)} %)`;
}
const { cures, record, analysis } = data;

function head() {
  const { training, held_out: held } = data.sides;
  const side = (s) => `${plural(s.missed + s.false_alarms, "wrong", "wrong")} and ${s.right} right`;
  const missed = data.missed_by_search;
  $("subtitle").textContent = `The labelled windows of the analysis: ${side(training)} ones to learn from, ${side(held)} ones held out, which come later in the recordings.`
    + (missed ? ` Among the wrong ones that are held out, ${plural(missed, "person was", "persons were")} missed by the search, but the network recognises them in a window of their own; they count as right below.` : "");
  $("verdicts").replaceChildren(...cures.map((cure) => make("div", { class: `verdict ${cure.status}` }, make("p", {}, make("b", {}, cure.verdict)),
    make("p", {}, cure.detail), ...notes(cure).map((text) => make("p", {}, text)))));
}

/** Return sentences about what a cure changes elsewhere: recordings that took no part, and the old data. */
function notes(cure) {
  const column = cures.indexOf(cure) + 1, old = data.sets.find((set) => set.old);
  const found = [...cure.unseen];
  for (const row of old?.rows ?? []) {
    const value = row.cells[column], before = row.cells[0];
    if (value?.change) found.push(`${value.change === "worse" ? "⚠ " : ""}Old data: “${row.name}” is clearly ${value.change}: ${percent(shareOf(before), 1)} before, ${percent(shareOf(value), 1)} after.`);
  }
  return found;
}

const shareOf = (value) => (value.share === undefined ? value.count / value.of : value.share);

const columns = () => cures.map((cure) => make("th", { scope: "col", class: "number" }, `after the ${cure.name}`));

/** Return a cell with a share, its interval, and whether it is clearly better or worse than before. */
function cell(label, value) {
  const element = make("td", { class: "number", "data-label": label });
  if (!value) return element.append("–"), element;
  const { text, counted } = value.text ? value : { text: percent(shareOf(value), 1), counted: value.share === undefined ? `${value.count} of ${value.of}` : "" };
  element.append(make("b", {}, text), " ", make("span", { class: "faint whole" }, counted));
  if (value.low !== undefined) element.append(" ", make("span", { class: "faint whole ends" }, ends(value.low, value.high)));
  if (value.change) element.append(" ", make("span", { class: `whole ends ${value.change === "worse" ? "wrong" : "good"}` }, value.change === "worse" ? "▼ worse" : "▲ better"));
  return element;
}

function proof() {
  $("proof-note").textContent = "Below each share: its 95 % interval (Wilson). ▲ better and ▼ worse: the intervals before and after do not overlap. Windows of neighbouring frames resemble each other, so the true uncertainty is larger than the intervals; recordings that took no part (--unseen) are the strongest proof.";
  $("proof-head").replaceChildren(make("th", { scope: "col" }, "decisions"), make("th", { scope: "col", class: "number" }, "before"), ...columns());
  const labels = ["before", ...cures.map((cure) => `after the ${cure.name}`)];
  $("proof-rows").replaceChildren(...data.sets.flatMap((set) => [
    make("tr", { class: "group" }, make("th", { scope: "rowgroup", colspan: labels.length + 1 }, set.name, make("span", { class: "note" }, ` ${set.note}`))),
    ...set.rows.map((row) => make("tr", {}, make("th", { scope: "row" }, row.name), ...row.cells.map((value, i) => (value || i ? cell(labels[i], value) : make("td", { class: "number empty-cell" }))))),
  ]));
}

const picture = (window, ...more) => (window.picture === null ? make("div", { class: "no-picture" }, "no picture") : make("img", { src: data.pictures[window.picture], alt: more.join(" ") }));
const probability = (value) => value.toFixed(2);
const shows = (window) => (window.person ? "a person" : "no person");
const groupOf = (window) => (window.cause === null || window.cause === undefined ? "" : `, group ${window.cause + 1}`);

function causes() {
  $("causes-section").hidden = !data.causes.length;
  $("causes-head").replaceChildren(...["group", "where its neurons push", "some of its windows"].map((text) => make("th", { scope: "col" }, text)), make("th", { scope: "col", class: "number" }, "wrong before"), ...cures.map((cure) => make("th", { scope: "col", class: "number" }, `wrong after the ${cure.name}`)));
  $("causes").replaceChildren(...data.causes.map((cause) => {
    const name = cause.number === null ? "no group" : `Group ${cause.number + 1}${cause.name ? `, ${cause.name}` : ""}`;
    const about = cause.number === null ? "wrong windows unlike all others" : `${cause.size} ${KIND_NAMES[cause.kind] ?? ""} in all${cause.silenced ? "; its neurons are silenced" : ""}`;
    return make("tr", {}, make("th", { scope: "row" }, make("b", {}, name), make("br"), make("span", { class: "note" }, about)), make("td", { "data-label": "where its neurons push" }, cause.place || "–"),
      make("td", {}, make("div", { class: "small-windows" }, ...cause.windows.map((w) => picture(w, `window of frame ${w.frame} with ${shows(w)}, wrong before`)))),
      make("td", { class: "number", "data-label": "wrong before" }, make("b", {}, String(cause.before))),
      ...cause.after.map((value, i) => make("td", { class: "number", "data-label": `wrong after the ${cures[i].name}` }, value ? make("b", {}, String(value.count)) : "–", ...(value ? [" ", make("span", { class: "faint whole ends" }, `fixed ${value.of - value.count}`), " ", make("span", { class: "faint whole ends" }, ends(1 - value.high, 1 - value.low))] : []))));
  }));
  const silenced = data.silenced.map((n) => `${n.layer_name}, ${n.channel}`);
  $("silenced").hidden = !cures.some((cure) => cure.name === "silencing");
  $("silenced").textContent = `Silenced neurons (layer, channel): ${silenced.length ? silenced.join("; ") : missing}.` + (record.settings?.damping ? ` Their activations are multiplied by ${record.settings.damping}.` : "");
}

function scatters() {
  $("scatters").replaceChildren(...cures.map((cure) => {
    const svg = draw("svg");
    const { x, y } = plot(svg, { width: 420, height: 420, end: 1, label: `P(person) before and after the ${cure.name}`, unit: "" });
    svg.setAttribute("role", "img");
    svg.append(draw("line", { x1: x(0), y1: y(0), x2: x(1), y2: y(1), stroke: "var(--faint)" }));
    for (const line of [{ x1: x(data.threshold), x2: x(data.threshold), y1: y(0), y2: y(1) }, { x1: x(0), x2: x(1), y1: y(cure.threshold), y2: y(cure.threshold) }]) svg.append(draw("line", { ...line, stroke: "var(--text)", "stroke-dasharray": "6 4" }));
    for (const [before, after, person] of cure.points) {
      const [px, py] = [x(before).toFixed(1), y(after).toFixed(1)];
      svg.append(person ? draw("circle", { cx: px, cy: py, r: 3.5, fill: "var(--accent)", "fill-opacity": 0.55 })
        : draw("path", { d: `M${px},${py}m-3.5,-3.5l7,7m0,-7l-7,7`, stroke: "var(--wrong)", "stroke-width": 1.6, "stroke-opacity": 0.75, fill: "none" }));
    }
    const c = cure.counts;
    return make("figure", { class: "chart" }, svg, make("figcaption", {}, `After the ${cure.name}: fixed ${c.fixed}, still wrong ${c.still_wrong}, broken ${c.broken}.`));
  }));
}

function windows() {
  $("windows-note").textContent = "Each window with P(person) before → after. Where only some are shown, they are spread evenly over the recordings.";
  $("windows").replaceChildren(...cures.flatMap((cure) => [make("h3", {}, `After the ${cure.name}`), ...Object.entries(data.kinds).map(([kind, title]) => {
    const shown = cure.windows[kind], count = cure.counts[kind];
    const some = shown.length < count ? `, ${shown.length} shown` : "";
    return make("div", {}, make("h4", { class: kind }, `${title}: ${count}${some}`), ...(shown.length ? [make("div", { class: "judged" }, ...shown.map((w) => {
      const change = `${probability(w.before)} → ${probability(w.after)}`;
      return make("figure", { title: `frame ${w.frame} of ${w.source}` }, picture(w, `window of frame ${w.frame} with ${shows(w)}: P(person) ${probability(w.before)} before and ${probability(w.after)} after the ${cure.name}`),
        make("figcaption", {}, make("b", {}, change), make("br"), `${shows(w)}${groupOf(w)}`));
    }))] : [make("p", { class: "note" }, "none")]));
  })]));
}

/** Draw a curve for each name over the steps of the training. */
function curve(names, scale, text) {
  const history = data.history, end = history[history.length - 1].step;
  const most = Math.max(1e-6, ...history.flatMap((h) => Object.keys(names).map((name) => scale(h[name])))) * 1.05;
  const svg = draw("svg");
  const { x, y } = plot(svg, { width: 440, height: 220, end, label: text, unit: "", most });
  svg.setAttribute("role", "img");
  for (const [name, style] of Object.entries(names)) {
    const points = history.map((h) => [x(h.step).toFixed(1), y(scale(h[name]) / most).toFixed(1)]);
    svg.append(draw("polyline", { points: points.map((p) => p.join(",")).join(" "), fill: "none", "stroke-width": 2, ...style }));
    for (const [cx, cy] of points) svg.append(draw("circle", { cx, cy, r: 3, fill: style.stroke }));
  }
  return make("figure", { class: "chart" }, svg, make("figcaption", {}, text));
}

function training() {
  const section = $("training-title").parentElement;
  section.hidden = !cures.some((cure) => cure.name === "training");
  const s = record.settings, history = data.history;
  $("training-note").textContent = (s ? `${plural(s.steps, "step", "steps")} with seed ${s.seed}; ${percent(s.own_share)} of the persons and of the backgrounds of a batch are windows of the analysis, the others are old data. ` : "The settings were not recorded. ")
    + (history?.length ? "" : "The curves of the training were not recorded.");
  if (!history?.length || section.hidden) return;
  const last = history[history.length - 1];
  $("curves").replaceChildren(
    curve({ loss: { stroke: "var(--accent)" } }, (v) => v, `Loss (running mean) by the step; ${number(last.loss)} at the end.`),
    curve({ persons_right: { stroke: "var(--accent)" }, backgrounds_right: { stroke: "var(--wrong)", "stroke-dasharray": "6 3" } }, (v) => 100 * (1 - v),
      `Wrong decisions about held-out windows of the old data at P = 0.5, in %: whole line persons (${percent(1 - last.persons_right, 1)} at the end), dashed line backgrounds (${percent(1 - last.backgrounds_right, 1)}).`));
}

/** Show which share of the training is in the weights, and how it was chosen. */
function shares() {
  const taken = data.trained_share, known = data.shares.length > 0;
  $("shares-table").hidden = !known;
  $("shares-note").hidden = taken === null;
  if (taken === null) return;
  const mean = taken === 1 ? "The weights are those after the training." : `Each weight is a weighted mean: ${percent(taken)} of its value after the training and ${percent(1 - taken)} of its value before the training. Such a network forgets less.`;
  $("shares-note").textContent = mean + (known ? " The shares were compared on the windows that the network learned from, and on held-out old windows that have no part in the proof. The repair takes the share that repairs most without a loss on the old windows; if every share loses something, it takes the smallest." : "");
  $("shares").replaceChildren(...data.shares.map((one) => {
    const chosen = one.share === taken, value = (label, share) => make("td", { class: "number", "data-label": label }, share === null ? "–" : percent(share, 1));
    const name = percent(one.share) + (one.share === 0 ? ", before the training" : "");
    return make("tr", {}, make("th", { scope: "row" }, chosen ? make("b", {}, `${name}, taken`) : name), value("wrong windows that become right", one.fixed), value("right windows that stay right", one.kept), value("old windows, balanced accuracy", one.old));
  }));
}

const duration = (seconds) => (seconds >= 60 ? `${(seconds / 60).toFixed(1)} min` : `${seconds.toFixed(1)} s`);

function time() {
  const phases = data.phases;
  $("phases-table").hidden = !phases;
  if (!phases) { $("time-note").textContent = "The time of this repair was not recorded."; return; }
  const total = phases.reduce((sum, phase) => sum + phase.seconds, 0);
  const longest = Math.max(...phases.map((phase) => phase.seconds), 1e-9);
  $("time-note").textContent = `${duration(total)} in all, on ${record.device} with ${plural(record.threads, "thread", "threads")}.` + (phases.some((p) => p.continued) ? " Phases that were continued after an interruption are marked; their time before it is not included." : "");
  $("phases").replaceChildren(...phases.map((phase) => make("tr", {}, make("th", { scope: "row" }, phase.name + (phase.continued ? " (continued)" : "")), make("td", { class: "number", "data-label": "time" }, duration(phase.seconds)),
    make("td", { class: "number", "data-label": "share" }, percent(phase.seconds / (total || 1))), make("td", { class: "phase-bar" }, draw("svg", { viewBox: "0 0 200 10", preserveAspectRatio: "none", "aria-hidden": "true" }, draw("rect", { width: (200 * phase.seconds / longest).toFixed(1), height: 10, fill: "var(--accent)" }))))));
}

function provenance() {
  const network = record.network ?? analysis.network?.architecture;
  details($("created"), { network: recorded(network), "model before": record.model ?? analysis.model, ...Object.fromEntries(cures.map((cure) => [`weights after the ${cure.name}`, cure.weights + (cure.model ? ` (model ${cure.model})` : "")])),
    thresholds: [`${+data.threshold.toFixed(4)} before`, ...cures.map((cure) => `${+cure.threshold.toFixed(4)} after the ${cure.name}`)].join(", "), finished: recorded(record.created), device: recorded(record.device), threads: recorded(record.threads) });
  details($("settings"), record.settings ?? { settings: missing });
  details($("versions"), { ...(record.versions ?? { versions: missing }), inputs: analysis.inputs, ...Object.fromEntries(Object.entries(analysis.fingerprints ?? {}).map(([k, v]) => [k, `${v.bytes} bytes, SHA-256 ${v.sha256} (${v.of})`])) });
  const again = cures.filter((cure) => cure.again);
  $("more").replaceChildren(...(again.length ? [make("p", {}, "The recordings, analysed again: ", ...again.flatMap((cure, i) => [i ? ", " : "", make("a", { href: `analysis_after_${cure.name}/report.html` }, `report after the ${cure.name}`)]), ". To compare frame by frame:"), ...data.compare.map((command) => make("pre", {}, command))] : []));
}

head();
proof();
causes();
scatters();
windows();
training();
shares();
time();
provenance();
