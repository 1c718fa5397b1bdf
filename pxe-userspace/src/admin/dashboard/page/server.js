// What is not a machine of the spec: strangers, files, and pxed itself with its interfaces, nodes and the errors of the specs.

import { get } from "./api.js";
import { $, element, isInUse, remake, setText } from "./dom.js";
import { clock, count, plural } from "./words.js";

const EVERY = 5000;
const FIRST_ERRORS = 3;

/** Paths by name; those of a newer or older pxed may be missing. */
const SOURCES = {
  health: "/api/v1/health",
  errors: "/api/v1/spec/errors",
  images: "/api/v1/images",
  strangers: "/api/v1/strangers",
  visitors: "/api/v1/visitors",
  nodes: "/api/v1/nodes",
};
/** What is read whatever is shown, since the head of the page counts it. The nodes cost a look at every machine. */
const ALWAYS = ["health", "errors", "images", "strangers"];

export class Server {
  #have = {};
  #page = "fleet";
  #timer = 0;

  show(page) {
    this.#page = page;
    this.refresh();
  }

  /** Reads everything that is shown, now and then every few seconds. */
  async refresh() {
    clearTimeout(this.#timer);
    const names = [...ALWAYS, ...(this.#page === "server" ? ["nodes"] : []), ...(this.#page === "strangers" ? ["visitors"] : [])];
    await Promise.all(names.map(async (name) => {
      if (this.#have[name] === null) return;
      try {
        this.#have[name] = await get(SOURCES[name]);
      } catch (error) {
        // This pxed does not have it. Without a connection, what was there stays.
        if (error.status === 404) this.#have[name] = null;
      }
    }));
    this.#render();
    const again = () => this.refresh();
    clearTimeout(this.#timer);
    if (document.visibilityState === "visible") this.#timer = setTimeout(again, EVERY);
    else document.addEventListener("visibilitychange", again, { once: true });
  }

  /** Forgets what an earlier pxed did not have. */
  reconnected() {
    for (const name of Object.keys(SOURCES)) if (this.#have[name] === null) delete this.#have[name];
    this.refresh();
  }

  #render() {
    const { health, errors = [], images } = this.#have;
    const strangers = listOf(this.#have.strangers);
    const wanting = (images?.files ?? []).filter(({ state }) => ["failed", "missing", "refused"].includes(state));
    const problems = [...(health?.problems ?? []), ...(health?.warnings ?? [])];
    badge($("count-strangers"), strangers.length);
    badge($("count-images"), wanting.length);
    badge($("count-server"), problems.length + (errors ?? []).length);
    this.#banners(health, errors ?? [], wanting);
    if (this.#page === "strangers") this.#strangers(strangers);
    if (this.#page === "images") this.#images(images);
    if (this.#page === "server") this.#server(health, errors ?? [], this.#have.nodes);
  }

  #banners(health, errors, wanting) {
    const problems = health?.problems ?? [];
    remake($("server-banners"), [errors, problems, wanting.length], () => {
      const made = [];
      if (errors.length > 0) {
        const rest = errors.length - FIRST_ERRORS;
        made.push(element("section", { class: "banner bad", "aria-label": "Errors of the spec" },
          element("strong", {}, `The spec has ${plural(errors.length, "error", "errors")}.`),
          element("ul", {}, errors.slice(0, FIRST_ERRORS).map((error) => element("li", {}, specError(error)))),
          rest > 0 ? element("a", { href: "/?page=server", "data-page": "server" }, `and ${count(rest)} more`) : null));
      }
      if (problems.length > 0) {
        made.push(element("section", { class: "banner bad", "aria-label": "Not served" },
          element("strong", {}, "pxed does not serve everything."), element("ul", {}, problems.slice(0, FIRST_ERRORS).map((text) => element("li", {}, text)))));
      }
      if (wanting.length > 0) {
        made.push(element("section", { class: "banner warn", "aria-label": "Missing files" },
          element("strong", {}, `${plural(wanting.length, "file is", "files are")} not there.`), " Machines that need them do not boot. ",
          element("a", { href: "/?page=images", "data-page": "images" }, "Which, and what to do")));
      }
      return made;
    });
  }

  #strangers(strangers) {
    const box = $("page-strangers");
    if (isInUse(box) && box.hasChildNodes()) return;
    const visitors = listOf(this.#have.visitors);
    remake(box, [strangers, visitors, this.#have.strangers === null], () => [
      element("h1", { id: "strangers-title", tabindex: "-1" }, "Strangers"),
      element("p", { class: "lead" }, "Who asked for an address without being in the spec. A near miss is often a mistyped digit."),
      strangers.length > 0
        ? table("Strangers", ["MAC", "Nearest in the spec", "Asked on", "Firmware", "Times", "First", "Last"], strangers.map(stranger))
        : element("p", { class: "empty" }, this.#have.strangers === null ? "This pxed keeps no list of strangers." : "Nobody has asked who is not in the spec."),
      element("h2", { id: "visitors-title" }, "Visitors of boot HTTP"),
      visitors.length > 0
        ? table("Visitors of boot HTTP", ["Who", "Address", "Last request", "Answer", "Last"], visitors.map(visitor))
        : element("p", { class: "empty" }, "None."),
    ]);
  }

  #images(images) {
    const box = $("page-images");
    if (isInUse(box) && box.hasChildNodes()) return;
    const files = (images?.files ?? []).toSorted((one, other) => urgency(one) - urgency(other) || (one.path < other.path ? -1 : 1));
    remake(box, images ?? null, () => [
      element("h1", { id: "images-title", tabindex: "-1" }, "Images"),
      element("p", { class: "lead" }, `The files that the machines of the spec boot.${images?.previous > 0 ? ` ${plural(images.previous, "machine boots", "machines boot")} the previous version meanwhile.` : ""}`),
      files.length > 0 ? table("Images", ["File", "State", "Needed by", "What to do"], files.map(file)) : element("p", { class: "empty" }, "No machine needs a file."),
    ]);
  }

  #server(health, errors, nodes) {
    const box = $("page-server");
    if (isInUse(box) && box.hasChildNodes()) return;
    const { problems = [], warnings = [], datapath = [], confinement, file_descriptors: descriptors, secrets = "", log_lines_dropped: dropped = 0 } = health ?? {};
    const list = (items, className) => element("ul", { class: `plain ${className}` }, items.map((text) => element("li", {}, text)));
    remake(box, [problems, warnings, datapath, confinement, descriptors, secrets, dropped, errors, nodes], () => [
      element("h1", { id: "server-title", tabindex: "-1" }, "Server"),
      element("p", { class: "lead" }, health ? (health.ready ? "Every interface and address of the spec is served." : "Not everything is served.") : "Nothing is known yet."),
      problems.length > 0 ? [element("h2", {}, "Problems"), list(problems, "bad")] : null,
      warnings.length > 0 ? [element("h2", {}, "Warnings"), list(warnings, "warn")] : null,
      element("h2", {}, "Spec"),
      errors.length > 0 ? element("ul", { class: "plain bad" }, errors.map((error) => element("li", {}, specError(error)))) : element("p", {}, "It has no errors."),
      element("h2", {}, "Interfaces"),
      datapath.length > 0 ? list(datapath, "") : element("p", { class: "empty" }, "None is served."),
      nodes ? [element("h2", {}, "Nodes"), nodes.trouble ? element("p", { class: "warn" }, nodes.trouble) : null,
        table("Nodes", ["Node", "State", "Answers first", "Sites", "Problems"], nodes.nodes.map(node))] : null,
      element("h2", {}, "Process"),
      list([secrets, descriptors ? `${count(descriptors.open ?? 0)} of ${count(descriptors.limit)} file descriptors are in use` : "", dropped > 0 ? `${plural(dropped, "log line was", "log lines were")} dropped` : "",
        ...(Array.isArray(confinement) ? confinement.map(measure) : [])].filter(Boolean), ""),
    ].flat().filter(Boolean));
  }
}

const listOf = (value) => (Array.isArray(value) ? value : []);

function badge(box, value) {
  box.hidden = value === 0;
  setText(box, value === 0 ? "" : count(value));
}

function table(name, heads, rows) {
  const id = `wide-${name.toLowerCase().replaceAll(" ", "-")}`;
  return element("div", { class: "wide", role: "region", "aria-label": `${name}, as a table`, tabindex: "0", id },
    element("table", {}, element("thead", {}, element("tr", {}, heads.map((head) => element("th", { scope: "col" }, head)))),
      element("tbody", {}, rows.map((cells) => element("tr", {}, cells.map((cell, index) => element(index === 0 ? "th" : "td", { scope: index === 0 ? "row" : null }, cell)))))));
}

function stranger({ mac, interface: port, vlan, relay, firmware, first_seen: first, last_seen: last, count: times, nearest, problem }) {
  const where = [port, vlan ? `VLAN ${vlan}` : "", relay ? `relay ${relay}` : ""].filter(Boolean).join(", ");
  const near = nearest ? [
    element("a", { href: `/?machine=${encodeURIComponent(nearest.mac)}`, "data-mac": nearest.mac }, nearest.hostname ?? nearest.machine ?? nearest.mac),
    ` ${nearest.mac}, ${plural(nearest.digits, "digit", "digits")} off, cluster ${nearest.cluster}${nearest.source ? `, ${nearest.source}` : ""}`,
  ] : "–";
  return [element("code", { class: "mac" }, mac), near, where, [firmware, problem].filter(Boolean).join("; "), count(times ?? 0), clock(Date.parse(first)), clock(Date.parse(last))];
}

function visitor({ name, address, requests = [], last_seen: last }) {
  const asked = requests.at(-1);
  return [name, address, asked ? element("code", {}, asked.request) : "–", asked?.text ?? "", clock(Date.parse(last))];
}

const urgency = ({ state }) => ["failed", "missing", "refused", "fetching", "waiting"].indexOf(state) + 1 || 9;

function file({ path, state, text, machines, percent, remedy = [], only_for: only, reason }) {
  const bar = percent === undefined ? null : element("progress", { max: "100", value: String(percent), "aria-label": `${path} downloaded` });
  const why = reason && !text.includes(reason) ? element("span", { class: "why" }, reason) : null;
  return [element("code", {}, path), [element("span", { class: `file-${state}` }, text), bar, why],
    `${plural(machines, "machine", "machines")}${only ? `, ${only}` : ""}`, remedy.map((line) => element("code", { class: "line" }, line))];
}

function node({ name, this: isThis, alive, machines, sites, problems = [] }) {
  const served = Object.entries(sites ?? {}).map(([from, to]) => (from === to ? from : `${from} as ${typeof to === "string" ? to : JSON.stringify(to)}`));
  return [`${name}${isThis ? " (this one)" : ""}`, alive ? "alive" : "gone", plural(machines, "machine", "machines"), served.join(", "), problems.join("; ")];
}

function measure({ name, in_force: isInForce, detail }) {
  return isInForce ? `confined by ${name}${detail && detail !== name ? `: ${detail}` : ""}` : `not confined by ${name}${detail ? `: ${detail}` : ""}`;
}

function specError({ file, line, column, field, message, objects, left_out: leftOut, kept }) {
  const place = line > 0 ? `${file}:${line}:${column}` : file;
  const counted = [[leftOut, "left out"], [kept, "as before"]].filter(([number]) => number > 0);
  const consequences = counted.map(([number, what]) => `; ${count(number)} ${objects}${number === 1 ? "" : "s"} ${what}`).join("");
  return [element("code", {}, place), ` ${field ? `${field}: ` : ""}${message}${consequences}`];
}
