const manifest = data.manifest;
let current = -1;

/** The metrics of signed influence, and the choice that shows both of them. */
const SIGNED = ["influence", "counter_influence"], BOTH = "both";
const SIDES = { influence: "support the decision", counter_influence: "oppose the decision" };
/** Return the decision that the neurons of a frame support or oppose, if it is about another class than the person. */
const ofTarget = (frame) => (data.target.person ? "" : `${frame.decided ? "" : "no "}${data.target.text}`);
const metricTitle = (metric) => (metric === BOTH ? "influence, supporting and opposing" : title(metric));
const KINDS = { missed: "missed persons", false_alarm: "false alarms" };

/** Fill an element with a text and the commands that it leads to. */
function advise(element, text, ...commands) {
  element.replaceChildren(make("p", {}, text), ...commands.map((command) => make("pre", {}, command)));
  element.hidden = false;
}

function fill(select, values, text = (v) => v, chosen = null) {
  select.replaceChildren(...values.map((v) => make("option", { value: v }, text(v))));
  if (chosen !== null && values.includes(chosen)) select.value = chosen;
}

function head() {
  const s = manifest.summary;
  const frames = s.frames.toLocaleString("en");
  $("subtitle").textContent =
    `${manifest.network.architecture}, model ${manifest.model}, regions: ${manifest.settings.regions}, threshold ${manifest.threshold}` +
    (data.target.person ? "" : `; the explanations are about ${data.target.about}`) +
    (manifest.status === "complete" ? "" : ` — ${manifest.status}: only a part was analysed`);
  const tiles = [["frames", frames], ["with a person", share(s.person, s.frames - s.errors)], ["doubtful", s.doubtful],
    ["wrong", s.labelled ? `${s.wrong} of ${s.labelled}` : "no labels"],
    ...(s.labelled_regions > s.labelled ? [["wrong regions", `${s.wrong_regions} of ${s.labelled_regions}`]] : []), ["explained", s.explained], ["unreadable", s.errors]];
  $("tiles").replaceChildren(...tiles.map(([name, value]) => make("li", {}, make("b", {}, String(value)), name)));
  $("problems").hidden = manifest.problems.length === 0;
  $("problem-list").replaceChildren(...manifest.problems.map((p) => make("li", {}, p)));
}

const SHAPES = { wrong: "M-6,-4 -4,-6 0,-2 4,-6 6,-4 2,0 6,4 4,6 0,2 -4,6 -6,4 -2,0Z", doubtful: "M0,-7 6,0 0,7 -6,0Z" };

function timeline() {
  const curve = data.curves[+$("source").value];
  const band = curve.band;
  // If the clock was set back within a recording, the last interval is not the latest.
  const end = Math.max(...band.map(([t]) => t), ...curve.marks.map((m) => m.t), 0) || 1;
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
  if (SIGNED.every((m) => available.includes(m))) available.unshift(BOTH);
  fill($("metric"), available, metricTitle, $("metric").value || (available.includes(BOTH) ? BOTH : data.first_metric));
  layers();
  $("image").src = frame.image;
  boxes();
  mark();
}

/** Return the metrics that are shown together. */
const chosenMetrics = () => ($("metric").value === BOTH ? SIGNED : [$("metric").value]);

function layers() {
  if ($("metric").value === BOTH) {
    $("metric-caption").textContent = `Influence is how much the output falls if a neuron is silenced: positive argues for ${data.target.about}, negative against it. Whole boxes support the decision, boxes with corners only oppose it.`;
  } else describe($("metric-caption"), $("metric").value);
  const names = new Map();
  for (const m of chosenMetrics()) for (const [layer, { name }] of Object.entries(data.shown[current].rankings[m] || {})) names.set(layer, name);
  const before = $("layer").value || "all";
  const numbers = [...names.keys()].sort((a, b) => a - b);
  fill($("layer"), ["all", ...numbers], (v) => (v === "all" ? "all" : `${v} (${names.get(v)})`), before);
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
  const rows = [], names = chosenMetrics();
  const signed = SIGNED.includes(names[0]);
  const argues = frame.output !== null && frame.output > 0 === frame.decided;
  const about = ofTarget(frame) && ` “${ofTarget(frame)}”`;
  const columns = signed ? ["neuron", "influence", "of the margin", "measured"] : ["neuron", "score", "patch"];
  $("neurons-head").replaceChildren(make("tr", {}, ...columns.map((c, i) => make("th", i && c !== "patch" ? { class: "number" } : {}, c))));
  let unstable = false;
  for (const metric of names) {
    if (names.length > 1) rows.push(make("tr", { class: "group" }, make("th", { colspan: columns.length, scope: "rowgroup" }, `${metric === "influence" ? "□" : "⛶"} ${SIDES[metric]}${about}`)));
    for (const [layer, ranking] of Object.entries(frame.rankings[metric] || {})) {
      if ($("layer").value !== "all" && $("layer").value !== layer) continue;
      unstable ||= ranking.unstable;
      for (const [channel, score, silenced, ...patch] of ranking.neurons) {
        const colour = layerColour(+layer);
        let box = null;
        if (patch.length) {
          const [x, y, w, h] = patch;
          // Together, the two sides differ in their lines; alone, the layers do.
          const dash = layerDash(+layer).split(" ").map((d) => d && d * unit);
          const sides = metric === "influence" ? [] : corners(w, h);
          box = draw("rect", { x, y, width: w, height: h, fill: "none", stroke: colour, "stroke-width": 1.6 * unit, "stroke-dasharray": (names.length > 1 ? sides : dash).join(" ") });
          svg.append(box);
        }
        const place = patch.length ? `${patch[2]} × ${patch[3]} at ${patch[0]}, ${patch[1]}` : "none";
        const cell = (text) => make("td", { class: "number" }, text);
        const row = make("tr", { "data-layer": layer, "data-channel": channel }, make("td", {}, make("span", { class: "swatch", style: `background:${colour}` }), `${ranking.name}, ${channel}` + (ranking.unstable ? " ⚠" : "")),
          ...(signed ? [cell(signedNumber(score)), cell(argues ? percent(score / frame.output, 1) : "–"), cell(signedNumber(silenced))] : [cell(score === null ? "–" : String(score)), make("td", {}, place)]));
        row.title = `patch: ${place}` + (ranking.stability === null ? "" : `; stability of the ranking: ${number(ranking.stability, 2)}`);
        const light = (on) => { row.classList.toggle("lit", on); if (box) box.setAttribute("fill", on ? colour + "88" : "none"); };
        row.addEventListener("mouseenter", () => light(true));
        row.addEventListener("mouseleave", () => light(false));
        rows.push(row);
      }
    }
  }
  $("neurons").replaceChildren(...rows);
  $("neurons-note").textContent = (signed ? "A neuron is a layer and a channel. Measured: how much the output falls if only this neuron is silenced. " : "A neuron is a layer and a channel. ") +
    (unstable ? "⚠ unstable: the two halves of the perturbations select different neurons." : "");
  $("proofs").replaceChildren(...names.filter((m) => frame.proofs[m]).map((m) => {
    const { text, warning } = frame.proofs[m];
    return make("p", {}, make("b", {}, m === "influence" ? "Supporting: " : "Opposing: "), text + ".", ...(warning ? [make("span", { class: "wrong" }, ` ⚠ ${warning}.`)] : []));
  }));
  const label = frame.label === null ? "" : `, labelled ${frame.label ? "person" : "no person"}`;
  const text = `${frame.source}, frame ${frame.frame} at ${clock(frame.seconds)}: P(person) ${number(frame.probability)}, decided ${frame.person ? "person" : "no person"}${label}; explained as ${words(frame.trigger)}` +
    (data.target.person ? "" : `; the explanation is about “${ofTarget(frame)}”, ${data.target.probability} ${number(frame.of_target)}`) +
    (frame.similarity === null ? "" : `; set similarity ${number(frame.similarity, 2)}`);
  $("caption").textContent = `${current + 1} of ${data.shown.length}. ${text}`;
  $("image").alt = text;
}

function signedNumber(value) {
  return value === null ? "–" : (value > 0 ? "+" : "−") + String(Math.abs(value));
}

const interval = ([low, high]) => `${(100 * low).toFixed(0)} to ${(100 * high).toFixed(0)} %`;

/** Return a number that stands behind another one. */
const faint = (text) => make("span", { class: "faint whole" }, text);

function gallery(images, name) {
  return make("div", { class: "gallery" }, ...images.map((image) => make("img", { src: image, alt: `a patch of ${name}` })));
}

/** Show the neurons that pushed wrong decisions of the chosen kind, and what silencing them does. */
function wrongWay() {
  const kind = $("kind").value, { explained, windows, neurons, effects } = manifest.wrong_way;
  const { wrong, right } = explained[kind];
  $("kind-note").textContent = (kind === "missed"
    ? `In ${wrong} explained frames with a person, the decision was “no person”. These neurons argued against the person.`
    : `In ${wrong} explained frames without a person, the decision was “person”. These neurons argued for a person.`)
    + (windows[kind] > wrong ? ` Only the best window of each frame counts here: ${wrong} of the ${windows[kind]} windows that are ${KINDS[kind]}. The causes at the top of the report are about all of these windows.` : "");
  $("right-head").textContent = `right frames ${kind === "missed" ? "with a person" : "without a person"}`;
  $("wrong-way").replaceChildren(...neurons[kind].map((n, i) => {
    const name = `${n.layer_name}, ${n.channel}`;
    const cell = (label, ...text) => make("td", { class: "number", "data-label": label }, ...text);
    return make("tr", {}, make("td", {}, make("span", { class: "swatch", style: `background:${layerColour(n.layer)}` }), name),
      cell("wrong frames", `${n.wrong.selected} of ${n.wrong.frames}`), cell("share of their margin", percent(n.wrong.share, 1)),
      cell("right frames", n.right ? `${n.right.selected} of ${n.right.frames}` : "–", ...(n.right && n.right.share !== null ? [" ", faint(`(${percent(n.right.share, 1)})`)] : [])),
      cell("lift", n.lift ? number(n.lift[0], 1) : "–", ...(n.lift ? [" ", faint(`(${number(n.lift[1], 1)} to ${number(n.lift[2], 1)})`)] : [])),
      make("td", {}, gallery(data.wrong_way_galleries[kind][i], name)));
  }));
  const found = effects.filter((e) => e.kind === kind);
  const unlabelled = found.some((e) => e.unlabelled);
  $("silencing-area").hidden = !found.length;
  $("silencing-empty").hidden = found.length > 0;
  if (!found.length) $("silencing-empty").textContent = manifest.status !== "complete" ? "This is measured when all recordings have been analysed. To continue: " + data.commands.resume : "It was not measured, because silence_neurons is 0.";
  $("changed-head").hidden = !unlabelled;
  $("silencing").replaceChildren(...found.map((e) => {
    const cell = (label, part, whole, ends) => make("td", { class: "number", "data-label": label }, `${part} of ${whole}`, ...(whole ? [" ", faint(`(${interval(ends)})`)] : []));
    const name = e.random ? `${e.neurons} random neurons of the same layers` : e.neurons === 1 ? "the first neuron" : `the first ${e.neurons} neurons`;
    return make("tr", e.random ? { class: "faint" } : {}, make("td", {}, name), cell("wrong turned right", e.turned_right, e.wrong, e.turned_right_interval), cell("right turned wrong", e.turned_wrong, e.right, e.turned_wrong_interval),
      ...(unlabelled ? [make("td", { class: "number", "data-label": "changed, no label" }, `${e.changed} of ${e.unlabelled}`)] : []));
  }));
  const most = manifest.settings.silence_frames;
  $("silencing-note").textContent = `The decided windows of ${manifest.wrong_way.frames} frames were decided again: all wrong and right decisions with a label, of each recording at most ${most} wrong and ${most} right ones, spread evenly. ` +
    "In brackets: 95 % intervals (Wilson; with at least five recordings also a bootstrap over recordings). Other windows of a scanned frame keep their decisions. The neurons were found in these same frames: other recordings show whether the effect holds there.";
}

/** Say what is missing for this section, or fill it. */
function startWrongWay() {
  const { explained, neurons } = manifest.wrong_way, s = manifest.summary;
  const kinds = Object.keys(KINDS).filter((k) => neurons[k].length);
  $("wrong-way-area").hidden = !kinds.length;
  $("wrong-way-empty").hidden = kinds.length > 0;
  if (kinds.length) {
    const described = kinds.map((k) => `${explained[k].wrong} ${explained[k].wrong === 1 ? KINDS[k].slice(0, -1) : KINDS[k]}`).join(" and ");
    $("wrong-way-note").textContent = `Neurons that support a wrong decision, over ${described}, those with the largest sum of influence first. A neuron is a layer and a channel. The share is the mean part of the margin that rests on the neuron, over the frames whose margin has the sign of the decision. In the right frames, the neuron is among those that oppose the decision, with the share in brackets; a neuron that recurs in both is not what makes the difference.`;
    fill($("kind"), kinds, (k) => KINDS[k]);
    $("kind-label").hidden = kinds.length < 2;
    wrongWay();
    return;
  }
  const empty = $("wrong-way-empty");
  if (!s.frames) empty.textContent = "There are no frames.";
  else if (!s.labelled) {
    advise(empty, "There are no labels, so it is not known which decisions are wrong. Write the times with and without a person into labels.csv, in seconds from the start of the recording, and analyse again:",
      "start,end,person\n0,12.5,background\n12.5,31,person", data.commands.labels);
  } else if (!s.wrong) empty.textContent = `All ${s.labelled} labelled frames were decided rightly: no neuron pushed the wrong way.`;
  else if (!data.target.person) {
    advise(empty, `${s.wrong} decisions about the person are wrong, but the explanations are about ${data.target.about}, so they do not say which neurons pushed these decisions. Explain the decisions about the person:`, data.commands.person);
  } else if (manifest.settings.explain.metrics.includes("influence")) {
    empty.textContent = `${s.wrong} decisions are wrong, but the best windows of these frames show no person that was missed, and are no false alarms: the causes above are about the windows of the missed persons.`;
  } else advise(empty, `${s.wrong} decisions are wrong, but the influence of their neurons was not computed. Analyse again:`, data.commands.influence);
}

function recurring() {
  const found = data.recurring[$("recurring-metric").value] || [];
  describe($("recurring-caption"), $("recurring-metric").value);
  const scale = (v) => 90 + 80 * Math.max(-1, Math.min(1, Math.log10(v)));
  $("recurring").replaceChildren(...found.map((r) => {
    const bar = draw("svg", { viewBox: "0 0 180 20", class: "bar", role: "img", "aria-label": `from ${number(r.low, 2)} to ${number(r.high, 2)}` },
      draw("line", { x1: 90, x2: 90, y1: 1, y2: 19, stroke: "var(--faint)" }),
      draw("line", { x1: scale(r.low), x2: scale(r.high), y1: 10, y2: 10, stroke: "var(--accent)", "stroke-width": 3 }),
      draw("circle", { cx: scale(r.lift), cy: 10, r: 4.5, fill: "var(--accent)" }));
    return make("tr", {}, make("td", {}, make("span", { class: "swatch", style: `background:${layerColour(r.layer)}` }), `${r.layer_name}, ${r.channel}`),
      make("td", { class: "number", "data-label": "doubtful or wrong" }, `${r.attention} of ${r.attention_frames}`), make("td", { class: "number", "data-label": "confident" }, `${r.confident} of ${r.confident_frames}`),
      make("td", { class: "number", "data-label": "lift" }, number(r.lift, 2)), make("td", { "data-label": "95 % interval" }, bar, make("span", { class: "faint" }, `${number(r.low, 2)} to ${number(r.high, 2)}`)),
      make("td", {}, gallery(r.gallery, `${r.layer_name}, ${r.channel}`)));
  }));
}

function heat() {
  const of = data.heat[$("heat-metric").value] || {};
  const groups = [["attention", "doubtful or wrong frames"], ["confident", "confident frames"]].filter(([group]) => of[group]);
  const most = Math.max(1e-9, ...groups.flatMap(([group]) => of[group].flat()));
  $("heat").replaceChildren(...groups.map(([group, name]) => {
    const rows = of[group];
    // The map has the shape of the image, and is not larger.
    const [width, height] = data.heat_size;
    const svg = draw("svg", { viewBox: `0 0 ${rows[0].length * 10} ${rows.length * 10}`, preserveAspectRatio: "none", role: "img", style: `aspect-ratio: ${width} / ${height}; max-width: min(${width}px, ${Math.round((320 * width) / height)}px)` });
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
startCauses();
fill($("source"), data.curves.map((_, i) => i), (i) => data.curves[i].source);
$("source-label").hidden = data.curves.length < 2;
if (data.curves.length) timeline();
fill($("recurring-metric"), Object.keys(data.metrics), title, data.first_metric);
fill($("heat-metric"), Object.keys(data.metrics), title, data.first_metric);
$("similarity-note").textContent = `Jaccard index of the neurons that ${data.similarity_metrics.join(" and ")} select, over all layers: 1 if they select the same neurons, 0 if they share none.`;
const { attention, confident } = data.groups;
$("recurring-note").textContent = attention && confident
  ? `Each row compares how often a neuron is selected in ${attention} doubtful or wrong frames and in ${confident} confident ones. The interval is that of a single neuron: among many neurons, some lie above 1 by chance.` +
    (data.target.person ? "" : ` Frames are doubtful or wrong about the person; the neurons are those of the explanations, which are about ${data.target.about}.`)
  : "";
$("recurring-empty").hidden = Boolean(attention && confident);
if (!(attention && confident)) {
  const counted = `${attention} doubtful or wrong frames and ${confident} confident ones were explained: too few for a comparison.`;
  if (!attention && confident) $("recurring-empty").textContent = counted + " There is no decision to worry about in these frames.";
  else advise($("recurring-empty"), `${counted} Explain more frames:`, data.commands.explain);
}
recurring();
heat();
startWrongWay();
if (!manifest.summary.frames) {
  if (manifest.status === "complete") advise($("no-frames"), "No frame was analysed: there is none within the chosen times and topics. Analyse all of them:", data.commands.all);
  else advise($("no-frames"), "No frame was analysed yet. Remove the problems that are listed above, if there are any, and continue:", data.commands.resume);
} else if (!data.shown.length) {
  advise($("no-frames"), `No frame was explained: ${manifest.summary.labelled ? "none was wrong or doubtful" : "none was doubtful"}, and none was requested. Explain some of them for comparison:`, data.commands.explain);
}
for (const [id, empty] of [["recurring-table", !(attention && confident)], ["recurring-controls", !(attention && confident)], ["recurring-caption", !(attention && confident)], ["where", !Object.keys(data.heat).length]]) $(id).hidden = empty;
$("frame-area").hidden = data.shown.length === 0;
if (data.shown.length) {
  const worst = data.shown.findIndex((s) => s.trigger === "wrong");
  const doubtful = data.shown.findIndex((s) => s.trigger === "low_confidence");
  show(Math.max(0, worst >= 0 ? worst : doubtful));
}
const { explain, scan, ...plain } = manifest.settings;
const network = manifest.network.architecture + (manifest.network.weights ? `, ${manifest.network.weights}` : ", the weights of the package");
details($("created"), { status: manifest.status, network, classes: manifest.network.classes.join(", "), "explanations about": data.target.about, model: manifest.model, device: manifest.device, threads: manifest.threads, labels: [manifest.labels.length ? `${manifest.labels.length} from a file` : "", manifest.settings.label_topic ? `boxes on ${manifest.settings.label_topic}` : ""].filter(Boolean).join(", ") || "none" });
details($("settings"), { ...plain, ...Object.fromEntries(Object.entries(scan).map(([k, v]) => [`scan.${k}`, v])), ...Object.fromEntries(Object.entries(explain).map(([k, v]) => [`explain.${k}`, v])) });
details($("versions"), { ...manifest.versions, ...Object.fromEntries(Object.entries(manifest.fingerprints).map(([k, v]) => [k, `${v.bytes} bytes, SHA-256 ${v.sha256} (${v.of})`])) });
$("source").addEventListener("change", timeline);
window.addEventListener("resize", timeline);
for (const event of ["beforeprint", "afterprint"]) {
  window.addEventListener(event, () => { for (const d of document.querySelectorAll("details")) d.open = event === "beforeprint"; });
}
$("metric").addEventListener("change", () => { layers(); boxes(); });
$("layer").addEventListener("change", boxes);
$("kind").addEventListener("change", wrongWay);
$("recurring-metric").addEventListener("change", recurring);
$("heat-metric").addEventListener("change", heat);
$("previous").addEventListener("click", () => show(current - 1));
$("next").addEventListener("click", () => show(current + 1));
