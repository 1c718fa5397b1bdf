// The table: the same machines in words, in pages. Rows stay the same elements while their values change, and the order is held while
// somebody reads: the focus or a selection is in the table, or the pointer above it.

import { $, element, isInUse, keep, setAttribute, setText } from "./dom.js";
import { format } from "./view.js";
import { paint, icon } from "./shapes.js";
import { count, duration } from "./words.js";

const HEADS = [
  ["machine", "Machine"], ["stage", "Stage"], ["since", "Since"], ["address", "Address"], ["mac", "MAC"], ["cluster", "Cluster"],
  ["role", "Role"], ["boots", "Boots"], ["from", "Next boot"], ["error", "Last error"],
];
const HELD = 2000;

export class Table {
  #go;
  #shown = [];
  #key = "";
  #orderedAt = -Infinity;
  #isHovered = false;
  #body = $("table").tBodies[0];

  /** `go(change)` changes the view. */
  constructor(go) {
    this.#go = go;
    const row = $("table").tHead.rows[0];
    for (const [column, name] of HEADS) {
      const button = element("button", { type: "button", onclick: () => this.#sort(column) }, name, element("span", { class: "arrow", "aria-hidden": "true" }));
      row.append(element("th", { scope: "col", "data-column": column }, button));
    }
    $("previous").addEventListener("click", () => this.#page(-1));
    $("next").addEventListener("click", () => this.#page(1));
    $("table-wide").addEventListener("pointerenter", () => (this.#isHovered = true));
    $("table-wide").addEventListener("pointerleave", () => (this.#isHovered = false));
  }

  #view = null;

  #sort(column) {
    const { sort, isDescending } = this.#view;
    // A third click returns to the order by attention.
    if (sort !== column) this.#go({ sort: column, isDescending: false, number: 1 });
    else if (!isDescending) this.#go({ isDescending: true, number: 1 });
    else this.#go({ sort: "attention", isDescending: false, number: 1 });
  }

  #page(step) {
    this.#go({ number: this.#view.number + step });
  }

  update(fleet, machines, view, now) {
    this.#view = view;
    const { sort, isDescending, size } = view;
    const pages = Math.max(1, Math.ceil(machines.length / size));
    const number = Math.min(view.number, pages);
    const key = JSON.stringify([format(view), fleet.isComplete]);
    const isNew = key !== this.#key;
    const isHeld = !isNew && (this.#isHovered || isInUse(this.#body));
    const time = performance.now();
    if (isNew || (!isHeld && time - this.#orderedAt >= HELD)) {
      this.#key = key;
      this.#orderedAt = time;
      this.#shown = fleet.sort(machines, sort, isDescending, now).slice((number - 1) * size, number * size);
    } else if (this.#shown.some((machine) => fleet.machines[machine.index] !== machine)) {
      // The spec has changed, and the machines are others.
      this.#shown = this.#shown.map(({ mac }) => fleet.byMac.get(mac)).filter(Boolean);
    }
    keep(this.#body, this.#shown, ({ mac }) => mac, (machine) => this.#row(machine), (row, machine) => show(row, machine, fleet, now));
    for (const head of $("table").tHead.rows[0].cells) {
      const isSorted = head.dataset.column === sort;
      setAttribute(head, "aria-sort", isSorted ? (isDescending ? "descending" : "ascending") : null);
      setText(head.querySelector(".arrow"), isSorted ? (isDescending ? "▼" : "▲") : "");
    }
    const begin = (number - 1) * size;
    setText($("range"), machines.length === 0 ? "" : `${count(begin + 1)}–${count(Math.min(begin + size, machines.length))} of ${count(machines.length)}`);
    $("previous").disabled = number <= 1;
    $("next").disabled = number >= pages;
    setText($("table-order"), isHeld ? "the order is held while you read" : sort === "attention" ? "failed and stuck first" : "");
    $("table-wide").hidden = machines.length === 0;
    $("none").hidden = machines.length > 0;
  }

  #row(machine) {
    const cells = HEADS.map(([column]) => element(column === "machine" ? "th" : "td", { class: `c-${column}`, scope: column === "machine" ? "row" : null }));
    cells[0].append(element("a", { href: format({ page: "machine", mac: machine.mac }), "data-mac": machine.mac }));
    cells[1].append(icon(machine.step), element("span", {}));
    return element("tr", {}, cells);
  }
}

function show(row, machine, fleet, now) {
  const [name, stage, since, address, mac, cluster, role, boots, from, error] = row.cells;
  const look = fleet.lookOf(machine, now);
  setText(name.firstElementChild, machine.host ?? machine.mac);
  setText(mac, machine.mac);
  setText(address, machine.address);
  setText(cluster, machine.cluster);
  setText(role, machine.role);
  const [shape, words] = stage.children;
  if (shape.dataset.look !== look) paint(shape, look);
  setText(words, look === "stuck" ? `${machine.stage}, stuck` : machine.stage);
  setAttribute(row, "class", `look-${look}`);
  setText(since, machine.step === "never-seen" ? "–" : duration(now - machine.since));
  setText(boots, machine.boots);
  setText(from, machine.policy === "hold" ? "disk, held" : machine.from);
  setText(error, machine.error ?? "");
  setAttribute(error, "title", machine.error);
}
