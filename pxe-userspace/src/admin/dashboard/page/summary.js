// The head of the fleet's page: how far it is, how long it will take, and the steps and clusters, which are filters at the same time.

import { $, element, keep, setAttribute, setText } from "./dom.js";
import { AT_WORK, BESIDE, LOOKS, STEPS, STEP_NAMES } from "./fleet.js";
import { icon } from "./shapes.js";
import { clock, count, countdown, percent, plural } from "./words.js";

/** The time over which the rate is counted. */
const WINDOW = 60_000;
/** The order of a bar: what is done first. */
const BAR = ["up", "running", "disk", "initramfs", "kernel", "script", "ipxe", "loader", "addressed", "offered", "asking", "stuck", "failed", "never-seen"];
const UNDER_WAY = ["asking", "offered", "addressed", "loader", "ipxe", "script", "kernel", "initramfs"];

/** Returns how many machines began to run in the last minute, per second; and how long the others that boot now will take. */
export function forecast(machines, counts, now) {
  const since = now - WINDOW;
  let arrived = 0;
  let first = now;
  for (const machine of machines) {
    if (!["running", "up"].includes(machine.step) || machine.since < since || machine.since > now) continue;
    arrived += 1;
    first = Math.min(first, machine.since);
  }
  const rate = arrived < 2 ? 0 : arrived / (Math.max(1000, now - first) / 1000);
  const left = UNDER_WAY.reduce((sum, look) => sum + counts[look], 0);
  return { rate, left, eta: rate > 0 && left > 0 ? (left / rate) * 1000 : null };
}

/** Shows a stacked bar of looks in a box. */
export function bar(box, counts, total) {
  const parts = BAR.filter((look) => counts[look] > 0);
  keep(box, parts, (look) => look, (look) => element("i", { class: `look-${look}` }), (part, look) => {
    part.style.flexGrow = String(counts[look] / Math.max(1, total));
  });
}

/** Returns the counts in words, for those who do not see the bar. */
export function inWords(counts, total) {
  const parts = BAR.filter((look) => counts[look] > 0).map((look) => `${count(counts[look])} ${STEP_NAMES[look].toLowerCase()}`);
  return `${plural(total, "machine", "machines")}: ${parts.join(", ")}`;
}

const atWork = (counts) => AT_WORK.reduce((sum, look) => sum + counts[look], 0);

export class Summary {
  #choose;

  /** `choose(kind, value)` is called when a step or a cluster is chosen: kind is `stages` or `clusters`. */
  constructor(choose) {
    this.#choose = choose;
    $("steps").append(...[...STEPS, ...BESIDE].map((look) => this.#step(look)));
  }

  #step(look) {
    const isBeside = BESIDE.includes(look);
    return element(
      "button",
      { type: "button", class: `step look-${look}${isBeside ? " beside" : ""}`, "data-look": look, "aria-pressed": "false", onclick: () => this.#choose("stages", look) },
      element("span", { class: "name" }, icon(look), element("span", {}, STEP_NAMES[look])),
      element("span", { class: "count" }, "0"),
    );
  }

  update(fleet, view, now) {
    const inClusters = view.clusters.length === 0 ? fleet.machines : fleet.machines.filter((machine) => view.clusters.includes(machine.cluster));
    const counts = fleet.counts(inClusters, now);
    const total = inClusters.length;
    setText($("up"), count(atWork(counts)));
    setText($("total"), count(total));
    const { rate, left, eta } = forecast(inClusters, counts, now);
    const figures = [
      ["Booting", count(left), ""],
      ["Failed", count(counts.failed), counts.failed > 0 ? "failed" : ""],
      ["Stuck", count(counts.stuck), counts.stuck > 0 ? "stuck" : ""],
      ["Never seen", count(counts["never-seen"]), ""],
      ["Coming up", rate > 0 ? `${rate >= 10 ? Math.round(rate) : rate.toFixed(1)}/s` : "–", ""],
      ["Done in", eta === null ? "–" : countdown(eta), eta === null ? "" : clock(now + eta)],
    ];
    keep($("figures"), figures, ([name]) => name,
      ([name]) => element("div", {}, element("dt", {}, name), element("dd", {})),
      (figure, [name, value, extra]) => {
        setText(figure.lastElementChild, value);
        setAttribute(figure, "class", name === "Failed" || name === "Stuck" ? extra : null);
        setAttribute(figure, "title", name === "Done in" && extra ? `at ${extra}, if the others come up as fast as those of the last minute` : null);
      });
    bar($("progress"), counts, total);
    setAttribute($("progress"), "aria-label", inWords(counts, total));
    for (const button of $("steps").children) {
      const { look } = button.dataset;
      setText(button.lastElementChild, count(counts[look]));
      setAttribute(button, "aria-pressed", view.stages.includes(look));
      button.classList.toggle("none", counts[look] === 0);
      // A step that no pxed of this version knows has no place.
      button.hidden = !BESIDE.includes(look) && !fleet.stages.some(({ step }) => step === look);
    }
    this.#clusters(fleet, view, now);
    document.title = title(counts, total);
  }

  #clusters(fleet, view, now) {
    const byName = new Map();
    for (const machine of fleet.machines) {
      let cluster = byName.get(machine.cluster);
      if (!cluster) byName.set(machine.cluster, (cluster = { name: machine.cluster, total: 0, counts: Object.fromEntries(LOOKS.map((look) => [look, 0])) }));
      cluster.total += 1;
      cluster.counts[fleet.lookOf(machine, now)] += 1;
    }
    $("clusters").hidden = byName.size < 2;
    keep($("clusters"), [...byName.values()], ({ name }) => name,
      ({ name }) => element(
        "button", { type: "button", class: "cluster", onclick: () => this.#choose("clusters", name) },
        element("span", { class: "name" }, name), element("span", { class: "count" }), element("span", { class: "mini", "aria-hidden": "true" }),
      ),
      (button, { name, total, counts }) => {
        const [, share, mini] = button.children;
        const bad = counts.failed + counts.stuck;
        setText(share, `${count(atWork(counts))}/${count(total)}${bad > 0 ? ` · ${count(bad)} bad` : ""}`);
        bar(mini, counts, total);
        setAttribute(button, "aria-pressed", view.clusters.includes(name));
      });
  }
}

function title(counts, total) {
  const bad = counts.failed + counts.stuck;
  const share = `${percent(atWork(counts), total)} % done`;
  return `${bad > 0 ? `${count(bad)} bad · ` : ""}${total > 0 ? `${share} · ` : ""}pxed`;
}
