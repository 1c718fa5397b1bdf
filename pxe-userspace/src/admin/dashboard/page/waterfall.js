// The last boot of a machine as a waterfall: what took how long, one below the other.

import { element } from "./dom.js";
import { bytes, clock, precise } from "./words.js";

const CLIENTS = { pxe: "PXE firmware", "http-boot": "HTTP boot firmware", ipxe: "iPXE", plain: "operating system" };
const ENDS = ["done", "unconfirmed", "failed"];
const DHCP = ["discover", "offer", "request", "ack"];

/** Returns the events of the last boot: from the last time that the firmware began. */
export function lastBoot(events) {
  let begin = 0;
  let isUnderWay = false;
  let hasScript = false;
  events.forEach((event, index) => {
    const isFirmware = event.event === "discover" && ["pxe", "http-boot"].includes(event.client);
    const isRom = event.event === "discover" && event.client === "ipxe" && hasScript;
    if ((isFirmware && isUnderWay) || isRom) {
      begin = index;
      isUnderWay = false;
      hasScript = false;
    }
    if (["ack", "requested", ...ENDS, "sent-to-disk", "wrong-architecture"].includes(event.event)) isUnderWay = true;
    if (event.artifact === "script") hasScript = true;
  });
  return events.slice(begin);
}

/** Returns the steps of a boot: `{name, kind, begin, end, text}`, where `end` is `null` while it goes on. */
export function steps(events) {
  const made = [];
  let exchange = null;
  for (const event of events) {
    const at = Date.parse(event.at);
    const kind = event.event;
    if (DHCP.includes(kind)) {
      const client = event.client ?? exchange?.client;
      // An exchange ends with its acknowledgement; another client begins another one.
      if (!exchange || exchange.client !== client || (kind === "discover" && exchange.isDone)) {
        exchange = { name: `DHCP, ${CLIENTS[client] ?? client ?? "unknown client"}`, kind: "dhcp", client, begin: at, end: null, text: [], isDone: false };
        made.push(exchange);
      }
      exchange.text.push(event.text ?? kind);
      exchange.end = at;
      exchange.isDone ||= kind === "ack";
      continue;
    }
    if (kind === "requested") {
      // Firmware asks twice: for the size of the file, which ends without an event, and for the file.
      const probe = made.at(-1);
      if (probe?.path === event.path && probe.end === null) {
        probe.text.push(event.text ?? kind);
        continue;
      }
      made.push({ name: `${event.artifact}, ${event.path}`, kind: "transfer", path: event.path, begin: at, end: null, text: [event.text ?? kind] });
      continue;
    }
    if (ENDS.includes(kind)) {
      let step = made.findLast((other) => other.path === event.path && other.end === null);
      const begin = event.took_ms === undefined ? at : at - event.took_ms;
      if (!step) {
        step = { name: `${event.artifact}, ${event.path}`, path: event.path, begin, text: [] };
        made.push(step);
      }
      const size = event.bytes === undefined ? "" : `${bytes(event.bytes)}${event.took_ms > 0 ? `, ${bytes((event.bytes * 1000) / event.took_ms)}/s` : ""}`;
      Object.assign(step, { kind: kind === "failed" ? "failure" : "transfer", end: at, size });
      step.text.push(event.text ?? kind);
      continue;
    }
    const isFailure = ["nak", "decline", "wrong-architecture"].includes(kind);
    made.push({ name: kind.replaceAll("-", " "), kind: isFailure ? "failure" : "mark", begin: at, end: at, text: [event.text ?? kind] });
  }
  // A program that asks for an address has left the transfers of the one before, even if nobody heard their end.
  made.forEach((step, index) => {
    const next = made.slice(index + 1).find(({ kind }) => kind === "dhcp");
    if (step.end === null && next) Object.assign(step, { end: next.begin, isLeft: true });
  });
  return made;
}

/** Returns a table of the steps, with a bar for each on one scale. */
export function waterfall(events, now, progress) {
  const boot = steps(lastBoot(events));
  if (boot.length === 0) return [element("p", { class: "empty" }, "Nothing was heard of it since pxed started.")];
  const begin = Math.min(...boot.map((step) => step.begin));
  const isRunning = (step) => step.end === null;
  const last = Math.max(...boot.map((step) => step.end ?? step.begin));
  // Something that never ended must not make the rest of the picture a hair's breadth.
  const end = boot.some(isRunning) ? Math.min(now, last + Math.max(10_000, (last - begin) * 2)) : last;
  const whole = Math.max(1, end - begin);
  const rows = boot.map((step) => {
    const until = step.end ?? Math.max(step.begin, end);
    const box = element("span", { class: `bar ${step.kind}${isRunning(step) ? " running" : ""}` });
    box.style.left = `${(100 * (step.begin - begin)) / whole}%`;
    box.style.width = `max(3px, ${(100 * (until - step.begin)) / whole}%)`;
    let took = isRunning(step) ? "under way" : step.isLeft ? "no end" : step.end > step.begin ? precise(step.end - step.begin) : "";
    if (isRunning(step) && progress && progress.total > 0) took = `${bytes(progress.done)} of ${bytes(progress.total)}`;
    const words = step.text.length > 2 ? [step.text[0], `… ${step.text.length - 2} more …`, step.text.at(-1)] : step.text;
    return element("tr", {},
      element("td", { class: "offset" }, `+${precise(step.begin - begin)}`),
      element("th", { scope: "row" }, step.name, step.size ? element("span", { class: "size" }, step.size) : null, element("span", { class: "words" }, words.join(" → "))),
      element("td", { class: "took" }, took),
      element("td", { class: "lane" }, element("span", { class: "track", "aria-hidden": "true" }, box)),
    );
  });
  const head = ["From", "Step", "Took"].map((name) => element("th", { scope: "col" }, name));
  head.push(element("th", { scope: "col", class: "scale" }, element("span", {}, `0`), element("span", {}, precise(whole))));
  const caption = element("caption", {}, `Began ${clock(begin)}, ${boot.some(isRunning) ? "and goes on" : last > begin ? `last event ${precise(last - begin)} later` : "one moment so far"}`);
  return [element("table", { class: "waterfall" }, caption, element("thead", {}, element("tr", {}, head)), element("tbody", {}, rows))];
}
