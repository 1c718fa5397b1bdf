// The page of a machine: what it is, how far it came and why not further, its last boot, and what a person may decide.

import { get } from "./api.js";
import { command, decide } from "./decisions.js";
import { $, element, isInUse, remake, setAttribute, setText } from "./dom.js";
import { icon, paint } from "./shapes.js";
import { waterfall } from "./waterfall.js";
import { clock, count, duration } from "./words.js";

const EVERY = 2000;
/** A machine that changes all the time is read at most this often. */
const PAUSE = 300;

export class MachinePage {
  #mac = null;
  #record = null;
  #fleet;
  #timer = 0;
  #readAt = -Infinity;
  #state = "";
  #said = "";
  #box = $("page-machine");
  #parts = {};

  constructor(fleet) {
    this.#fleet = fleet;
  }

  show(mac) {
    if (mac === this.#mac) return;
    this.#mac = mac;
    this.#record = null;
    this.#state = "";
    this.#said = "";
    this.#build();
    this.#read();
  }

  hide() {
    this.#mac = null;
    clearTimeout(this.#timer);
  }

  /** Is called when the fleet has changed: reads the machine again if it is another one than before. */
  update(now) {
    const machine = this.#fleet.byMac.get(this.#mac);
    const state = machine ? `${machine.stage} ${machine.since} ${machine.boots} ${machine.policy} ${machine.error}` : "";
    if (state !== this.#state) {
      this.#state = state;
      this.#schedule(PAUSE);
    }
    this.#head(now);
  }

  #build() {
    const part = (name, title, className) => {
      const body = element("div", { class: "body" });
      const section = element("section", { class: className, "aria-labelledby": `machine-${name}` }, element("h2", { id: `machine-${name}` }, title), body);
      this.#parts[name] = body;
      return section;
    };
    this.#parts = {
      title: element("h1", { id: "machine-title", tabindex: "-1" }, this.#mac),
      facts: element("dl", { class: "facts" }),
      stage: element("p", { class: "stage" }, icon("never-seen", 18), element("strong", {}), element("span", {})),
      said: element("p", { class: "said", role: "status" }),
      hold: element("button", { type: "button", onclick: () => this.#decide("hold") }, "Hold"),
      release: element("button", { type: "button", onclick: () => this.#decide("release") }, "Release"),
      door: element("p", { class: "hint" }),
    };
    const { title, facts, stage, said, hold, release, door } = this.#parts;
    this.#box.replaceChildren(
      element("p", { class: "back" }, element("a", { href: "/", "data-back": true }, "Fleet")),
      element("div", { class: "machine-head" }, title, stage, facts),
      element("div", { class: "columns" },
        part("diagnosis", "Diagnosis", "diagnosis"),
        element("section", { class: "decisions", "aria-labelledby": "machine-decisions" },
          element("h2", { id: "machine-decisions" }, "Decide"), element("p", { class: "buttons" }, hold, release), door, said)),
      part("boot", "Last boot", "boot"),
      part("files", "Files", "files"),
      part("events", "All events", "events"),
    );
    this.#head(this.#fleet.now());
  }

  #schedule(after) {
    clearTimeout(this.#timer);
    const wait = Math.max(after, this.#readAt + PAUSE - performance.now());
    this.#timer = setTimeout(() => this.#read(), wait);
  }

  async #read() {
    const mac = this.#mac;
    if (mac === null) return;
    this.#readAt = performance.now();
    try {
      const record = await get(`/api/v1/machines/${encodeURIComponent(mac)}`);
      if (mac !== this.#mac) return;
      this.#record = record;
      this.#show(this.#fleet.now());
    } catch (error) {
      if (mac !== this.#mac) return;
      // Without a connection, the head of the page says so; the machine stays as it was.
      if (error.status === 404 || error.status === 400) this.#unknown(error.message);
    }
    if (document.visibilityState === "visible") this.#schedule(EVERY);
    else document.addEventListener("visibilitychange", () => this.#schedule(0), { once: true });
  }

  #unknown(message) {
    this.#record = null;
    remake(this.#parts.diagnosis, message, () => element("p", {}, message));
    for (const name of ["boot", "files", "events"]) remake(this.#parts[name], null, () => element("p", { class: "empty" }, "–"));
  }

  /** Shows what the stream says of the machine, which is there at once. */
  #head(now) {
    const machine = this.#fleet.byMac.get(this.#mac);
    const { title, facts, stage, hold, release, door } = this.#parts;
    hold.disabled = release.disabled = !machine || this.#fleet.changes === "never";
    const reads = this.#fleet.changes === "never"
      ? `This address allows reads only: pxed has no --admin-token. On its host, type ${command("hold", this.#mac)} or ${command("release", this.#mac)}.`
      : this.#fleet.changes === "with-token" ? "A decision needs pxed's admin token, which this page asks for." : "";
    setText(door, machine ? reads : "");
    if (!machine) {
      setText(stage.children[1], this.#fleet.isComplete ? "not a machine of the spec" : "…");
      return;
    }
    const look = this.#fleet.lookOf(machine, now);
    setText(title, machine.host ?? machine.mac);
    const [shape, name, since] = stage.children;
    if (shape.dataset.look !== look) paint(shape, look, 18);
    setAttribute(stage, "class", `stage look-${look}`);
    setText(name, look === "stuck" ? `${machine.stage}, stuck` : machine.stage);
    setText(since, machine.step === "never-seen" ? "" : `for ${duration(now - machine.since)}, since ${clock(machine.since)}`);
    hold.hidden = machine.policy === "hold";
    const list = [
      ["MAC", machine.macs.join(", ")], ["Address", machine.address], ["Cluster", machine.cluster], ["Role", machine.role],
      ["Version", `${machine.version} ${machine.architecture}`], ["Policy", machine.policy], ["Next boot", machine.from === "disk" ? "from its disk" : "from the network"],
      ["Boots", count(machine.boots)],
    ];
    remake(facts, list, () => list.map(([term, text]) => element("div", {}, element("dt", {}, term), element("dd", {}, text))));
  }

  #show(now) {
    const { diagnosis, boot, files, events } = this.#parts;
    const record = this.#record;
    const { reached, waits_for: waitsFor, advice } = record.diagnosis ?? { reached: "", waits_for: "", advice: [] };
    const story = Array.isArray(record.story) ? record.story : [];
    const extra = [record.spec_error, record.frames_of_others?.text].filter(Boolean);
    remake(diagnosis, [reached, waitsFor, advice, story, extra], () => [
      story.length > 0 ? element("ol", { class: "story" }, story.map((sentence) => element("li", {}, sentenceOf(sentence)))) : null,
      element("p", { class: "reached" }, reached),
      waitsFor ? element("p", {}, element("span", { class: "label" }, "Waits for "), waitsFor) : null,
      advice.length > 0 ? element("h3", {}, advice.length === 1 ? "To do" : "To do, the most likely first") : null,
      advice.length > 0 ? element("ol", { class: "advice" }, advice.map((text) => element("li", {}, text))) : null,
      extra.map((text) => element("p", { class: "warn" }, text)),
    ].flat().filter(Boolean));
    const isLive = record.events.some((event) => event.event === "requested");
    if (!isInUse(boot)) remake(boot, [record.events, isLive ? Math.round(now / 1000) : 0, record.progress], () => waterfall(record.events, now, record.progress));
    remake(files, [record.files, record.requests], () => this.#files(record));
    if (!isInUse(events)) {
      remake(events, record.events, () => element("ol", { class: "log", reversed: true, tabindex: "0", "aria-label": "Events, the last one first" }, record.events.toReversed().map((event) =>
        element("li", {}, element("time", { datetime: event.at }, clock(Date.parse(event.at))), " ", event.text ?? event.event))));
    }
  }

  #files({ files = [], requests = [] }) {
    const parts = [];
    if (files.length > 0) {
      parts.push(element("ul", { class: "plain" }, files.map(({ path, state, text, remedy = [] }) =>
        element("li", { class: `file-${state}` }, element("code", {}, path), " ", text, remedy.map((line) => element("pre", {}, line))))));
    }
    if (requests.length > 0) {
      parts.push(element("h3", {}, "Requests outside its boot"), element("ul", { class: "plain" }, requests.map(({ at, request, text, times }) =>
        element("li", {}, element("time", { datetime: at }, clock(Date.parse(at))), " ", element("code", {}, request), ` ${text}${times > 1 ? `, ${times} times` : ""}`))));
    }
    return parts.length > 0 ? parts : [element("p", { class: "empty" }, "Nothing is known of its files.")];
  }

  async #decide(decision) {
    const mac = this.#mac;
    const { hold, release } = this.#parts;
    const focused = document.activeElement;
    hold.disabled = release.disabled = true;
    try {
      const record = await decide(decision, mac, this.#fleet.changes);
      if (mac !== this.#mac || record === null) return;
      const written = (record.written ?? []).join(" ");
      const isKept = decision === "release" && record.policy === "hold";
      this.#say(decision === "hold" ? `Held: it is sent to its disk from now on. ${written}`
        : isKept ? `Not released: ${written || "it is still held by the spec."}` : `Released: it boots from the ${record.boots_from} next. ${written}`);
      this.#record = record;
      const machine = this.#fleet.byMac.get(mac);
      if (machine) Object.assign(machine, { policy: record.policy, from: record.boots_from });
    } catch (error) {
      if (mac === this.#mac) this.#say(`${error.message}${error.status === 403 ? ` On its host, type ${command(decision, mac)}.` : ""}`);
    } finally {
      if (mac === this.#mac) {
        this.#head(this.#fleet.now());
        // The button that was pressed may have gone.
        (focused?.hidden ? release : focused)?.focus?.();
        this.#schedule(0);
      }
    }
  }

  #say(text) {
    this.#said = text.trim();
    setText(this.#parts.said, this.#said);
  }
}

/** A sentence of the story is text, or an object with its time. */
function sentenceOf(sentence) {
  if (typeof sentence === "string") return sentence;
  const { at, text } = sentence;
  return at ? [element("time", { datetime: at }, clock(Date.parse(at))), " ", String(text ?? "")] : String(text ?? "");
}
