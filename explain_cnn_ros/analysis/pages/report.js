const manifest = data.manifest;
let current = -1;

function fill(select, values, text = (v) => v, chosen = null) {
  select.replaceChildren(...values.map((v) => make("option", { value: v }, text(v))));
  if (chosen !== null && values.includes(chosen)) select.value = chosen;
}

function head() {
  const s = manifest.summary;
  const frames = s.frames.toLocaleString("en");
  $("subtitle").textContent =
    `model ${manifest.model}, regions: ${manifest.settings.regions}, threshold ${manifest.threshold}` +
    (manifest.status === "complete" ? "" : ` — ${manifest.status}: only a part was analysed`);
  const tiles = [["frames", frames], ["with a person", share(s.person, s.frames - s.errors)], ["doubtful", s.doubtful],
    ["wrong", s.labelled ? `${s.wrong} of ${s.labelled}` : "no labels"], ["explained", s.explained], ["unreadable", s.errors]];
  $("tiles").replaceChildren(...tiles.map(([name, value]) => make("li", {}, make("b", {}, String(value)), name)));
  $("problems").hidden = manifest.problems.length === 0;
  $("problem-list").replaceChildren(...manifest.problems.map((p) => make("li", {}, p)));
}

const SHAPES = { wrong: "M-6,-4 -4,-6 0,-2 4,-6 6,-4 2,0 6,4 4,6 0,2 -4,6 -6,4 -2,0Z", doubtful: "M0,-7 6,0 0,7 -6,0Z" };

function timeline() {
  const curve = data.curves[+$("source").value];
  const band = curve.band;
  const end = band.length ? band[band.length - 1][0] : 1;
  const svg = $("timeline");
  const { x, y, left, right } = plot(svg, { end, height: 240, label: `P(person) over time of ${curve.source}` });
  if (band.length) {
    const upper = band.map(([t, , high]) => `${x(t).toFixed(1)},${y(high).toFixed(1)}`);
    const lower = band.map(([t, low]) => `${x(t).toFixed(1)},${y(low).toFixed(1)}`).reverse();
    svg.append(draw("polygon", { points: [...upper, ...lower].join(" "), fill: "var(--band)", stroke: "var(--curve)", "stroke-width": 1.5, "stroke-linejoin": "round" }));
  }
  const level = y(data.threshold);
  svg.append(draw("line", { x1: left, x2: right, y1: level, y2: level, stroke: "var(--text)", "stroke-dasharray": "6 4" }));
  const order = { explained: 0, doubtful: 1, wrong: 2 };
  for (const mark of [...curve.marks].sort((a, b) => order[a.kind] - order[b.kind])) {
    const text = `${mark.kind}, frame ${mark.frame} at ${clock(mark.t)}, P(person) ${number(mark.p)}` + (mark.shown === null ? "; its picture is not in this report" : "");
    const shape = SHAPES[mark.kind] ? draw("path", { d: SHAPES[mark.kind] }) : draw("circle", { r: 3.5, class: "dot" });
    const group = draw("g", { class: `mark ${mark.kind}`, transform: `translate(${x(mark.t).toFixed(1)},${y(mark.p).toFixed(1)})`, "data-frame": mark.frame },
      draw("circle", { r: 11, class: "halo" }), shape, draw("title", {}, text));
    if (mark.shown !== null) {
      for (const [key, value] of Object.entries({ role: "button", tabindex: 0, "aria-label": text, "data-shown": mark.shown })) group.setAttribute(key, value);
      group.addEventListener("click", () => show(mark.shown));
      group.addEventListener("keydown", (event) => {
        if (event.key === "Enter" || event.key === " ") { event.preventDefault(); show(mark.shown); }
      });
    } else {
      group.setAttribute("opacity", 0.55);
      group.addEventListener("click", () => { $("caption").textContent = text; });
    }
    svg.append(group);
  }
  const similar = $("similarity");
  $("similarity-title").parentElement.hidden = curve.similarity.length === 0;
  const places = plot(similar, { end, height: 160, label: `Set similarity over time of ${curve.source}` });
  similar.append(draw("polyline", { points: curve.similarity.map(([t, v]) => `${places.x(t).toFixed(1)},${places.y(v).toFixed(1)}`).join(" "), fill: "none", stroke: "var(--accent)", "stroke-width": 1 }));
  for (const [t, v] of curve.similarity) similar.append(draw("circle", { cx: places.x(t), cy: places.y(v), r: 3, fill: "var(--accent)" }, draw("title", {}, `${clock(t)}: ${number(v)}`)));
  mark();
}

function mark() {
  for (const group of document.querySelectorAll("#timeline .mark")) group.classList.toggle("selected", group.dataset.shown === String(current));
}

function show(index) {
  if (!data.shown.length) return;
  current = (index + data.shown.length) % data.shown.length;
  const frame = data.shown[current];
  const source = data.curves.findIndex((c) => c.source === frame.source);
  if (+$("source").value !== source) { $("source").value = source; timeline(); }
  const available = Object.keys(frame.rankings);
  fill($("metric"), available, title, $("metric").value || data.first_metric);
  layers();
  $("image").src = frame.image;
  boxes();
  mark();
}

function layers() {
  describe($("metric-caption"), $("metric").value);
  const ranking = data.shown[current].rankings[$("metric").value] || {};
  const before = $("layer").value || "all";
  fill($("layer"), ["all", ...Object.keys(ranking)], (v) => (v === "all" ? "all" : `${v} (${ranking[v].name})`), before);
}

function boxes() {
  const frame = data.shown[current];
  const [width, height] = frame.size;
  const svg = $("boxes");
  svg.setAttribute("viewBox", `0 0 ${width} ${height}`);
  svg.replaceChildren();
  const unit = Math.max(width, height) / 640;
  // Upright images do not fill more than a screen.
  svg.parentElement.style.maxWidth = `${Math.round((600 * width) / height)}px`;
  const [rx, ry, rw, rh] = frame.region;
  svg.append(draw("rect", { x: rx, y: ry, width: rw, height: rh, fill: "none", stroke: "#ffffff", "stroke-width": 2 * unit }));
  const rows = [];
  const ranking = frame.rankings[$("metric").value] || {};
  for (const [layer, { name, neurons, stability, unstable }] of Object.entries(ranking)) {
    if ($("layer").value !== "all" && $("layer").value !== layer) continue;
    for (const [channel, score, x, y, w, h] of neurons) {
      const colour = layerColour(+layer);
      let box = null;
      if (x !== undefined) {
        box = draw("rect", { x, y, width: w, height: h, fill: "none", stroke: colour, "stroke-width": 1.6 * unit, "stroke-dasharray": layerDash(+layer).split(" ").map((d) => d && d * unit).join(" ") });
        svg.append(box);
      }
      const row = make("tr", {}, make("td", {}, make("span", { class: "swatch", style: `background:${colour}` }), `${layer} ${name}` + (unstable ? " ⚠" : "")),
        make("td", { class: "number" }, String(channel)), make("td", { class: "number" }, score === null ? "–" : String(score)),
        make("td", {}, x === undefined ? "none" : `${w} × ${h} at ${x}, ${y}`));
      row.title = stability === null ? "" : `stability of the ranking: ${number(stability, 2)}`;
      const light = (on) => { row.classList.toggle("lit", on); if (box) box.setAttribute("fill", on ? colour + "88" : "none"); };
      row.addEventListener("mouseenter", () => light(true));
      row.addEventListener("mouseleave", () => light(false));
      rows.push(row);
    }
  }
  $("neurons").replaceChildren(...rows);
  const label = frame.label === null ? "" : `, labelled ${frame.label ? "person" : "no person"}`;
  const text = `${frame.source}, frame ${frame.frame} at ${clock(frame.seconds)}: P(person) ${number(frame.probability)}, decided ${frame.person ? "person" : "no person"}${label}; explained as ${words(frame.trigger)}` +
    (frame.similarity === null ? "" : `; set similarity ${number(frame.similarity, 2)}`);
  $("caption").textContent = `${current + 1} of ${data.shown.length}. ${text}`;
  $("image").alt = text;
}

function recurring() {
  const found = data.recurring[$("recurring-metric").value] || [];
  describe($("recurring-caption"), $("recurring-metric").value);
  const scale = (v) => 90 + 80 * Math.max(-1, Math.min(1, Math.log10(v)));
  $("recurring").replaceChildren(...found.map((r) => {
    const bar = draw("svg", { viewBox: "0 0 180 20", style: "width:180px", role: "img", "aria-label": `from ${number(r.low, 2)} to ${number(r.high, 2)}` },
      draw("line", { x1: 90, x2: 90, y1: 1, y2: 19, stroke: "var(--faint)" }),
      draw("line", { x1: scale(r.low), x2: scale(r.high), y1: 10, y2: 10, stroke: "var(--accent)", "stroke-width": 3 }),
      draw("circle", { cx: scale(r.lift), cy: 10, r: 4.5, fill: "var(--accent)" }));
    return make("tr", {}, make("td", { style: "white-space: nowrap" }, make("span", { class: "swatch", style: `background:${layerColour(r.layer)}` }), `${r.layer_name}, channel ${r.channel}`),
      make("td", { class: "number" }, `${r.attention} of ${r.attention_frames}`), make("td", { class: "number" }, `${r.confident} of ${r.confident_frames}`),
      make("td", { class: "number" }, number(r.lift, 2)), make("td", {}, bar, make("span", { class: "faint" }, `${number(r.low, 2)} to ${number(r.high, 2)}`)),
      make("td", {}, make("div", { class: "gallery" }, ...r.gallery.map((image) => make("img", { src: image, alt: `a patch of channel ${r.channel} of ${r.layer_name}` })))));
  }));
}

function heat() {
  const of = data.heat[$("heat-metric").value] || {};
  const groups = [["attention", "doubtful or wrong frames"], ["confident", "confident frames"]].filter(([group]) => of[group]);
  const most = Math.max(1e-9, ...groups.flatMap(([group]) => of[group].flat()));
  $("heat").replaceChildren(...groups.map(([group, name]) => {
    const rows = of[group];
    const svg = draw("svg", { viewBox: `0 0 ${rows[0].length * 10} ${rows.length * 10}`, role: "img" });
    svg.append(draw("rect", { width: rows[0].length * 10, height: rows.length * 10, fill: "var(--panel)", stroke: "var(--line)" }));
    let sum = 0, sx = 0, sy = 0;
    rows.forEach((row, i) => row.forEach((value, j) => {
      sum += value; sx += value * (j + 0.5); sy += value * (i + 0.5);
      if (value) svg.append(draw("rect", { x: j * 10, y: i * 10, width: 10, height: 10, "shape-rendering": "crispEdges", fill: "var(--accent)", "fill-opacity": (value / most).toFixed(3) }));
    }));
    const text = `In ${name}: the centre of all patches lies at ${((100 * sx) / sum / rows[0].length).toFixed(0)} % of the width and ${((100 * sy) / sum / rows.length).toFixed(0)} % of the height of the image. At most ${(100 * Math.max(...rows.flat())).toFixed(0)} % of the patches cover the same place.`;
    svg.setAttribute("aria-label", text);
    return make("figure", {}, svg, make("figcaption", {}, text));
  }));
}

head();
fill($("source"), data.curves.map((_, i) => i), (i) => data.curves[i].source);
$("source-label").hidden = data.curves.length < 2;
if (data.curves.length) timeline();
fill($("recurring-metric"), Object.keys(data.metrics), title, data.first_metric);
fill($("heat-metric"), Object.keys(data.metrics), title, data.first_metric);
$("similarity-note").textContent = `Jaccard index of the neurons that ${data.similarity_metrics.join(" and ")} select, over all layers: 1 if they select the same neurons, 0 if they share none.`;
const { attention, confident } = data.groups;
$("recurring-note").textContent = attention && confident
  ? `Each row compares how often a neuron is selected in ${attention} doubtful or wrong frames and in ${confident} confident ones. The interval is that of a single neuron: among many neurons, some lie above 1 by chance.`
  : `There are too few frames for a comparison: ${attention} doubtful or wrong frames and ${confident} confident ones were explained (explain_every explains confident ones).`;
recurring();
heat();
$("no-frames").hidden = data.shown.length > 0;
$("frame-area").hidden = data.shown.length === 0;
if (data.shown.length) {
  const worst = data.shown.findIndex((s) => s.trigger === "wrong");
  const doubtful = data.shown.findIndex((s) => s.trigger === "low_confidence");
  show(Math.max(0, worst >= 0 ? worst : doubtful));
}
const { explain, scan, ...plain } = manifest.settings;
details($("created"), { status: manifest.status, model: manifest.model, device: manifest.device, threads: manifest.threads, labels: `${manifest.labels.length} intervals of time` });
details($("settings"), { ...plain, ...Object.fromEntries(Object.entries(scan).map(([k, v]) => [`scan.${k}`, v])), ...Object.fromEntries(Object.entries(explain).map(([k, v]) => [`explain.${k}`, v])) });
details($("versions"), { ...manifest.versions, ...Object.fromEntries(Object.entries(manifest.fingerprints).map(([k, v]) => [k, `${v.bytes} bytes, SHA-256 ${v.sha256} (${v.of})`])) });
$("source").addEventListener("change", timeline);
window.addEventListener("resize", timeline);
for (const event of ["beforeprint", "afterprint"]) {
  window.addEventListener(event, () => { for (const d of document.querySelectorAll("details")) d.open = event === "beforeprint"; });
}
$("metric").addEventListener("change", () => { layers(); boxes(); });
$("layer").addEventListener("change", boxes);
$("recurring-metric").addEventListener("change", recurring);
$("heat-metric").addEventListener("change", heat);
$("previous").addEventListener("click", () => show(current - 1));
$("next").addEventListener("click", () => show(current + 1));
