const [a, b] = data.manifests;
$("subtitle").textContent = `A: ${data.names[0]} (model ${a.model}). B: ${data.names[1]} (model ${b.model}).`;

const row = (name, of) => make("tr", {}, make("th", { scope: "row" }, name), ...[a, b].map((m) => make("td", { class: "number" }, String(of(m)))));
$("totals").replaceChildren(
  row("model", (m) => m.model),
  row("threshold", (m) => m.threshold),
  row("frames", (m) => m.summary.frames),
  row("with a person", (m) => share(m.summary.person, m.summary.frames - m.summary.errors)),
  row("doubtful", (m) => share(m.summary.doubtful, m.summary.frames - m.summary.errors)),
  row("wrong, of the labelled frames", (m) => (m.summary.labelled ? share(m.summary.wrong, m.summary.labelled) : "no labels")),
  row("explained", (m) => m.summary.explained),
);

const { common, changed, repaired, broken } = data.counts;
$("changed-note").textContent = common
  ? `${common} frames are in both; the decisions about ${changed} of them differ (${share(changed, common)})` + (repaired + broken ? `: ${repaired} that were wrong are right in B, ${broken} that were right are wrong.` : ".")
  : "No frame is in both. Recordings are matched by their names, and frames by their stamps.";
const svg = $("scatter");
const { x, y } = plot(svg, { width: 420, height: 420, end: 1, label: "P(person) of A against B", unit: "" });
svg.append(draw("line", { x1: x(0), y1: y(0), x2: x(1), y2: y(1), stroke: "var(--faint)", "stroke-dasharray": "4 4" }));
for (const [p, q] of data.points) svg.append(draw("circle", { cx: x(p).toFixed(1), cy: y(q).toFixed(1), r: 3, fill: "var(--accent)", "fill-opacity": 0.45 }));
$("changed").replaceChildren(...data.changed.map((c) => make("tr", {}, make("td", {}, `${c.source}, ${c.frame}`), make("td", { class: "number" }, number(c.a)), make("td", { class: "number" }, number(c.b)),
  make("td", {}, c.person ? "person" : "none"), make("td", { class: c.label === null ? "" : c.label === c.person ? "" : "wrong" }, c.label === null ? "–" : c.label ? "person" : "none"))));

const { explained, by_metric } = data.neurons;
function neurons() {
  describe($("metric-caption"), $("metric").value);
  const found = by_metric[$("metric").value] || { came: [], went: [], neurons: 0 };
  $("neurons-note").textContent = `The tables show in which share of the explained frames (${explained[0]} of A, ${explained[1]} of B) a neuron is selected, for neurons whose 95 % interval does not contain 1. Of the ${found.neurons} neurons that are selected in A or B, about ${Math.round(found.neurons * 0.05)} would be listed by chance.`;
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
