const [a, b] = data.manifests;
const network = (m) => m.network?.architecture ?? "unknown";
const weights = (m) => (m.network ? m.network.weights || "those of the package" : "unknown");
const called = (m) => `${m.network ? `${network(m)}, ` : ""}model ${m.model}`;
$("subtitle").textContent = `A: ${data.names[0]} (${called(a)}). B: ${data.names[1]} (${called(b)}).`;

const row = (name, of) => make("tr", {}, make("th", { scope: "row" }, name), ...[a, b].map((m) => make("td", { class: "number" }, String(of(m)))));
$("totals").replaceChildren(
  row("network", network),
  row("weights", weights),
  row("model", (m) => m.model),
  row("window", (m) => (m.input_size ? `${m.input_size.join(" × ")} pixels` : "unknown")),
  row("regions", (m) => m.settings?.regions ?? "unknown"),
  row("threshold", (m) => m.threshold),
  row("explanations about", (m) => data.targets[m === a ? 0 : 1].about),
  row("frames", (m) => m.summary.frames),
  row("with a person", (m) => share(m.summary.person, m.summary.frames - m.summary.errors)),
  row("doubtful", (m) => share(m.summary.doubtful, m.summary.frames - m.summary.errors)),
  row("wrong, of the labelled frames", (m) => (m.summary.labelled ? share(m.summary.wrong, m.summary.labelled) : "no labels")),
  row("explained", (m) => m.summary.explained),
);

const { common, changed, repaired, broken } = data.counts;
$("changed-note").textContent = common
  ? `${common} frames are in both; ${changed ? `the decisions about ${changed} of them differ (${share(changed, common)})` : "no decision differs"}` + (repaired + broken ? `: ${repaired} that were wrong are right in B, ${broken} that were right are wrong.` : ".") +
    (a.threshold === b.threshold ? "" : ` The thresholds differ: A decides for a person if P(person) is at least ${a.threshold}, B if it is at least ${b.threshold}.`) +
    (a.model === b.model ? "" : " P(person) of different weights need not mean the same: compare decisions, not probabilities.")
  : "No frame is in both. Recordings are matched by their names, and frames by their stamps.";
if (repaired + broken && repaired + broken < changed) $("changed-note").textContent += " The others are right or wrong in both, or have no label.";
if (data.changed.length < changed) $("changed-note").textContent += ` The table shows the ${data.changed.length} whose P(person) changed most.`;
const svg = $("scatter");
const { x, y } = plot(svg, { width: 420, height: 420, end: 1, label: "P(person) of A against B", unit: "" });
svg.append(draw("line", { x1: x(0), y1: y(0), x2: x(1), y2: y(1), stroke: "var(--faint)" }));
for (const line of [{ x1: x(a.threshold), x2: x(a.threshold), y1: y(0), y2: y(1) }, { x1: x(0), x2: x(1), y1: y(b.threshold), y2: y(b.threshold) }]) svg.append(draw("line", { ...line, stroke: "var(--text)", "stroke-dasharray": "6 4", class: "threshold" }));
for (const [p, q] of data.points) svg.append(draw("circle", { cx: x(p).toFixed(1), cy: y(q).toFixed(1), r: 3, fill: "var(--accent)", "fill-opacity": 0.45 }));
const same = [make("tr", {}, make("td", { colspan: 5 }, "none"))];
$("changed").replaceChildren(...(!data.changed.length ? same : data.changed.map((c) => make("tr", {}, make("td", {}, `${c.source}, ${c.frame}`), make("td", { class: "number" }, number(c.a)), make("td", { class: "number" }, number(c.b)),
  make("td", {}, c.person ? "person" : "none"), make("td", { class: c.label === null ? "" : c.label === c.person ? "" : "wrong" }, c.label === null ? "–" : c.label ? "person" : "none")))));

const { explained, by_metric } = data.neurons;
$("incomparable").textContent = data.incomparable;
$("incomparable").hidden = !data.incomparable;
$("neurons-area").hidden = Boolean(data.incomparable);
const sameTarget = data.targets[0].text === data.targets[1].text;
function neurons() {
  describe($("metric-caption"), $("metric").value);
  const found = by_metric[$("metric").value] || { came: [], went: [], neurons: 0 };
  $("neurons-note").textContent = `The tables show in which share of the explained frames (${explained[0]} of A, ${explained[1]} of B) a neuron is selected, for neurons whose 95 % interval does not contain 1. Of the ${found.neurons} neurons that are selected in A or B, about ${Math.round(found.neurons * 0.05)} would be listed by chance.` +
    (found.listed && Math.max(...found.listed) > Math.max(found.came.length, found.went.length) ? ` Shown are the first ${Math.max(found.came.length, found.went.length)} of ${found.listed[0]} and of ${found.listed[1]}.` : "") +
    (sameTarget ? "" : ` The explanations of A are about ${data.targets[0].about}, those of B about ${data.targets[1].about}: other neurons are to be expected.`);
  for (const side of ["came", "went"]) {
    $(side).replaceChildren(...(found[side].length ? found[side].map((r) => make("tr", {}, make("td", {}, make("span", { class: "swatch", style: `background:${layerColour(r.layer)}` }), `${r.name}, channel ${r.channel}`),
      make("td", { class: "number" }, share(r.a, explained[0])), make("td", { class: "number" }, share(r.b, explained[1])),
      make("td", { class: "number" }, `${number(r.lift, 2)} (${number(r.low, 2)} to ${number(r.high, 2)})`))) : [make("tr", {}, make("td", { colspan: 4 }, "none"))]));
  }
}
$("metric").replaceChildren(...Object.keys(data.metrics).map((m) => make("option", { value: m }, title(m))));
if (data.first_metric) $("metric").value = data.first_metric;
$("metric").addEventListener("change", neurons);
neurons();
