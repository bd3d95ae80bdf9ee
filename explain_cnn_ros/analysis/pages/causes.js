"use strict";
/** Draw the causes of wrong decisions: a card for each group of windows. */
const CAUSE_KINDS = { missed: ["missed person", "missed persons"], false_alarm: ["false alarm", "false alarms"] };
const ofKind = (kind, count) => `${count} ${CAUSE_KINDS[kind][count === 1 ? 0 : 1]}`;
const plural = (count, one, many) => `${count} ${count === 1 ? one : many}`;

/** Return a window with the map of the place where the neurons push, as a figure. */
function causePlace(cause, image) {
  const rows = cause.map, most = Math.max(...rows.flat(), 1e-12);
  const svg = draw("svg", { viewBox: `0 0 ${rows[0].length} ${rows.length}`, preserveAspectRatio: "none", "aria-hidden": "true" });
  rows.forEach((row, i) => row.forEach((value, j) => {
    if (value > 0.05 * most) svg.append(draw("rect", { x: j, y: i, width: 1.02, height: 1.02, "fill-opacity": (0.75 * value / most).toFixed(3) }));
  }));
  return make("figure", { class: "cause-place" }, make("div", {}, make("img", { src: image, alt: `a typical window; the neurons push ${cause.place}` }), svg),
    make("figcaption", {}, `push ${cause.place}`));
}

function causeCard(cause, index, windows) {
  const s = cause.silenced, frames = plural(cause.frames, "frame", "frames");
  const ends = (pair) => `(${(100 * pair[0]).toFixed(0)} to ${(100 * pair[1]).toFixed(0)} %)`;
  const neurons = cause.neurons.map((n) => make("li", {}, make("span", { class: "swatch", style: `background:${data.layers[n.layer]?.colour ?? "var(--faint)"}` }),
    `${n.layer_name}, ${n.channel}`, make("span", { class: "faint" }, ` in ${n.windows} of ${cause.windows.length}`)));
  const body = make("div", {},
    make("p", {}, `The ${plural(cause.neurons.length, "neuron", "neurons")} that they share ${cause.neurons.length === 1 ? "carries" : "carry"} ${cause.carried > 1 ? "more than the whole margin" : `${percent(cause.carried)} of the margin`}. `,
      `With these silenced, ${s.turned_right} of ${s.wrong} become right ${ends(s.turned_right_interval)}`,
      s.right ? `, and ${s.turned_wrong} of ${plural(s.right, "right decision", "right decisions")} become wrong ${ends(s.turned_wrong_interval)}.` : "."),
    make("div", { class: "cause-windows" }, ...windows.map((w) => make("img", { src: w.image, title: `frame ${w.frame} of ${w.source}`, alt: `window of frame ${w.frame}` }))),
    make("details", {}, make("summary", {}, "neurons"), make("ul", { class: "cause-neurons" }, ...neurons)));
  return make("article", { class: "cause" }, make("h3", {}, `Group ${index + 1}${cause.name ? `, ${cause.name}` : ""}: ${ofKind(cause.kind, cause.windows.length)}`, make("span", { class: "faint" }, ` in ${frames}`)),
    ...(windows.length ? [causePlace(cause, windows[0].image)] : []), body);
}

/** Fill the section of the causes. It is hidden if there is no wrong decision. */
function startCauses() {
  const found = data.manifest.causes || {}, causes = found.causes || [];
  $("causes-section").hidden = !causes.length && !found.search && !Object.values(found.alone || {}).some(Boolean);
  if ($("causes-section").hidden) return;
  const kinds = Object.keys(CAUSE_KINDS).filter((kind) => causes.some((c) => c.kind === kind) || found.alone?.[kind]);
  const texts = kinds.map((kind) => {
    const own = causes.map((cause, i) => [cause, i]).filter(([cause]) => cause.kind === kind);
    const count = own.reduce((sum, [cause]) => sum + cause.windows.length, 0) + (found.alone[kind] || 0);
    const named = own.map(([cause, i]) => `${cause.name || `group ${i + 1}`} (${cause.windows.length})`);
    if (found.alone[kind]) named.push(`unlike all others (${found.alone[kind]})`);
    return `${ofKind(kind, count)}, ${plural(own.length, "cause", "causes")}: ${named.join(", ")}`;
  });
  $("causes-summary").replaceChildren(...texts.map((text) => make("p", {}, make("b", {}, text))));
  const notes = [];
  for (const [kind, count] of Object.entries(found.skipped || {})) if (count) notes.push(`${ofKind(kind, count)} more were not grouped (causes_windows).`);
  if (found.search) notes.push(`The search missed ${plural(found.search, "person", "persons")} that the network recognises in a window around them.`);
  if (causes.some((c) => !c.name)) notes.push(`To name a group: ${data.commands.name_cause}`);
  $("causes-notes").textContent = notes.join(" ");
  $("causes").replaceChildren(...causes.map((cause, i) => causeCard(cause, i, data.cause_windows[i] || [])));
}
