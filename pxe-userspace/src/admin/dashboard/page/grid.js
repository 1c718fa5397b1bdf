// The fleet as a grid: a cell each, on a canvas. Ten thousand elements would be slow, and nobody tabs through them: the grid is one stop
// for the keyboard, in which the arrow keys move and each machine is told in words.

import { $, setAttribute, setText } from "./dom.js";
import { STEP_NAMES } from "./fleet.js";
import { colour, draw, onColours, repaint } from "./shapes.js";
import { count, duration } from "./words.js";

const SMALLEST = 6;
const LARGEST = 26;
/** Order changes at most this often, while colours change at once. */
const CALM = 1000;

export class Grid {
  #open;
  #fleet = null;
  #order = [];
  /** What is drawn at each place. */
  #drawn = [];
  #columns = 1;
  #pitch = LARGEST;
  #sprites = new Map();
  #current = null;
  #orderedAt = -Infinity;
  #orderedFor = "";
  #width = 0;

  /** `open(machine)` is called for a machine that a person wants to see. */
  constructor(open) {
    this.#open = open;
    const box = $("grid");
    box.addEventListener("keydown", (event) => this.#key(event));
    box.addEventListener("focus", () => {
      if (!this.#current && this.#order.length > 0) this.#move(0);
      this.#drawCursor();
    });
    box.addEventListener("blur", () => this.#drawCursor());
    box.addEventListener("pointermove", (event) => this.#hover(event));
    box.addEventListener("pointerleave", () => ($("grid-tip").hidden = true));
    box.addEventListener("click", (event) => {
      const machine = this.#at(event);
      if (machine) this.#open(machine);
    });
    new ResizeObserver(() => this.#resize()).observe(box);
    onColours(() => {
      repaint();
      this.#sprites.clear();
      this.#drawAll();
    });
  }

  /** Shows these machines, in this order of `key`, which names the filter that they come from. */
  update(fleet, machines, key, now) {
    this.#fleet = fleet;
    const time = performance.now();
    if (key !== this.#orderedFor || machines.length !== this.#order.length || time - this.#orderedAt >= CALM) {
      this.#orderedAt = time;
      this.#orderedFor = key;
      this.#order = fleet.sort(machines, "attention", false, now);
      if (this.#current && !this.#order.includes(this.#current)) this.#current = null;
      this.#layOut();
    }
    this.#drawChanges(now);
    const attention = this.#order.reduce((sum, machine) => sum + Number(["failed", "stuck"].includes(fleet.lookOf(machine, now))), 0);
    setAttribute($("grid"), "aria-label", null);
    setText($("grid-order"), `${count(this.#order.length)} shown, ${attention > 0 ? `${count(attention)} failed or stuck first` : "none failed or stuck"}, then in the order of the spec`);
    if (document.activeElement === $("grid") && this.#current) this.#say(this.#current, now);
  }

  #resize() {
    if (Math.abs($("grid").clientWidth - this.#width) < 1) return;
    this.#layOut();
    this.#drawAll();
  }

  /** Chooses the largest cells with which all machines fit into half of the window, and makes the canvas as large as they need. */
  #layOut() {
    const canvas = $("canvas");
    const width = Math.max(50, $("grid").clientWidth);
    const height = Math.max(160, innerHeight * 0.46);
    const total = this.#order.length;
    let pitch = LARGEST;
    while (pitch > SMALLEST && Math.ceil(total / Math.floor(width / pitch)) * pitch > height) pitch -= 1;
    const columns = Math.max(1, Math.floor(width / pitch));
    const rows = Math.max(1, Math.ceil(total / columns));
    const ratio = devicePixelRatio || 1;
    const [pixelWidth, pixelHeight] = [Math.round(width * ratio), Math.round(rows * pitch * ratio)];
    if (pitch !== this.#pitch) this.#sprites.clear();
    const isSame = columns === this.#columns && pitch === this.#pitch && canvas.width === pixelWidth && canvas.height === pixelHeight;
    this.#width = width;
    this.#columns = columns;
    this.#pitch = pitch;
    if (isSame) return;
    canvas.width = pixelWidth;
    canvas.height = pixelHeight;
    canvas.style.width = `${width}px`;
    canvas.style.height = `${rows * pitch}px`;
    this.#drawn = [];
  }

  #drawAll() {
    this.#drawn = [];
    if (this.#fleet) this.#drawChanges(this.#fleet.now());
  }

  #drawChanges(now) {
    const context = $("canvas").getContext("2d");
    const ratio = devicePixelRatio || 1;
    context.setTransform(ratio, 0, 0, ratio, 0, 0);
    const { length } = this.#order;
    for (let index = 0; index < Math.max(length, this.#drawn.length); index += 1) {
      const look = index < length ? this.#fleet.lookOf(this.#order[index], now) : null;
      if (this.#drawn[index] === look) continue;
      this.#drawn[index] = look;
      const [x, y] = this.#place(index);
      context.clearRect(x, y, this.#pitch, this.#pitch);
      if (look !== null) context.drawImage(this.#sprite(look, ratio), x, y, this.#pitch, this.#pitch);
    }
    this.#drawn.length = length;
    this.#drawCursor();
  }

  #sprite(look, ratio) {
    let sprite = this.#sprites.get(look);
    if (!sprite) {
      sprite = document.createElement("canvas");
      sprite.width = sprite.height = Math.round(this.#pitch * ratio);
      const context = sprite.getContext("2d");
      context.scale(ratio, ratio);
      const gap = this.#pitch < 9 ? 1 : this.#pitch < 16 ? 2 : 4;
      draw(context, look, gap / 2, gap / 2, this.#pitch - gap);
      this.#sprites.set(look, sprite);
    }
    return sprite;
  }

  #place(index) {
    return [(index % this.#columns) * this.#pitch, Math.floor(index / this.#columns) * this.#pitch];
  }

  /** The cursor is an element above the canvas, so that cells need not be drawn again. */
  #drawCursor() {
    const index = this.#current ? this.#order.indexOf(this.#current) : -1;
    let cursor = $("grid").querySelector(".cursor");
    if (index < 0) {
      if (cursor) cursor.hidden = true;
      return;
    }
    if (!cursor) {
      cursor = document.createElement("span");
      cursor.className = "cursor";
      $("grid").append(cursor);
    }
    const [x, y] = this.#place(index);
    cursor.hidden = false;
    cursor.style.setProperty("transform", `translate(${x - 2}px, ${y - 2}px)`);
    cursor.style.width = cursor.style.height = `${this.#pitch + 4}px`;
    cursor.style.borderColor = colour("ink");
  }

  #at(event) {
    const box = $("canvas").getBoundingClientRect();
    const [column, row] = [Math.floor((event.clientX - box.left) / this.#pitch), Math.floor((event.clientY - box.top) / this.#pitch)];
    if (column < 0 || column >= this.#columns || row < 0) return null;
    return this.#order[row * this.#columns + column] ?? null;
  }

  #words(machine, now) {
    const look = this.#fleet.lookOf(machine, now);
    const stage = look === "stuck" ? `stuck at ${machine.stage}` : machine.stage;
    const since = look === "never-seen" ? "" : ` for ${duration(now - machine.since)}`;
    return [machine.host, machine.mac, machine.address, machine.cluster, `${stage}${since}`, machine.error].filter(Boolean);
  }

  #hover(event) {
    const machine = this.#at(event);
    const tip = $("grid-tip");
    tip.hidden = machine === null;
    if (machine === null) return;
    setText(tip, this.#words(machine, this.#fleet.now()).join("  ·  "));
    const section = $("grid-section").getBoundingClientRect();
    const left = Math.min(event.clientX - section.left + 14, section.width - tip.offsetWidth - 4);
    tip.style.left = `${Math.max(0, left)}px`;
    tip.style.top = `${event.clientY - section.top + 18}px`;
  }

  #key(event) {
    if (event.ctrlKey || event.altKey || event.metaKey) return;
    const index = this.#current ? this.#order.indexOf(this.#current) : -1;
    const last = this.#order.length - 1;
    const page = this.#columns * 10;
    const to = {
      ArrowRight: index + 1, ArrowLeft: index - 1, ArrowDown: index + this.#columns, ArrowUp: index - this.#columns,
      PageDown: index + page, PageUp: index - page, Home: 0, End: last,
    }[event.key];
    if (event.key === "Enter" || event.key === " ") {
      event.preventDefault();
      if (this.#current) this.#open(this.#current);
    } else if (to !== undefined && last >= 0) {
      event.preventDefault();
      const isRow = ["ArrowDown", "ArrowUp"].includes(event.key);
      if (!isRow || (to >= 0 && to <= last)) this.#move(Math.min(last, Math.max(0, to)));
    }
  }

  #move(index) {
    this.#current = this.#order[index];
    this.#drawCursor();
    this.#say(this.#current, this.#fleet.now());
    const [, y] = this.#place(index);
    const top = $("grid").getBoundingClientRect().top + y;
    const head = document.querySelector("header").offsetHeight;
    if (top < head) scrollBy(0, top - head - 20);
    else if (top + this.#pitch > innerHeight) scrollBy(0, top + this.#pitch - innerHeight + 20);
  }

  /** Says where the cursor is. Said again only if the machine comes to another stage. */
  #say(machine, now) {
    const said = $("grid-said");
    const key = `${machine.mac} ${this.#fleet.lookOf(machine, now)}`;
    if (said.dataset.key === key) return;
    said.dataset.key = key;
    setText(said, this.#words(machine, now).join(", "));
  }
}
