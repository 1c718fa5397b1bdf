// The dashboard of pxed.
//
// Layout. A bar at the top stays in sight: the name, four pages with the number of what is wrong on each, and whether the connection lives.
// Below it, banners say what a person must know whatever is shown: the connection is lost, the spec has errors, files are missing.
//
//   Fleet     One large number, how many are up. Beside it the figures that a night is decided by: booting, failed, stuck, the rate and the
//             time left. Then one bar in the order of the boot, and the steps below it in the same order, each a filter with its count; they
//             are the legend of the grid, too. Search. Clusters, each with a bar of its own. The grid, a cell a machine, failed and stuck
//             ones first. Then the table with the same machines in words, in pages.
//   Machine   Its name and stage; the diagnosis with what to do on the left, the decision (hold, release) on the right; its last boot as a
//             waterfall; its files; its events.
//   Strangers, Images, Server    Tables of what is not a machine.
//
// Rules. Colour never says anything alone: shapes fill as a boot goes on, and words are beside them. System fonts, hairlines instead of boxes,
// figures of one width. Nothing moves but what changes. On a narrow screen everything is one column, and only tables scroll sideways.
//
// Data. `feed.js` has the fleet by one stream; `fleet.js` keeps it; views render at most once a frame, and only what is another than before.
// The address of the page is the view (`view.js`). Nothing that comes from a machine becomes markup (`dom.js`).

import { token } from "./api.js";
import { askForToken } from "./decisions.js";
import { $, element, keep, setAttribute, setText } from "./dom.js";
import { Feed } from "./feed.js";
import { Fleet, STEP_NAMES } from "./fleet.js";
import { Grid } from "./grid.js";
import { MachinePage } from "./machine.js";
import { Server } from "./server.js";
import { Summary } from "./summary.js";
import { Table } from "./table.js";
import { format, isFiltered, parse, toggled } from "./view.js";
import { clock, duration, plural } from "./words.js";

const PAGES = ["fleet", "machine", "strangers", "images", "server"];

const fleet = new Fleet();
let view = parse(location.search);
/** The fleet that is being read. */
let incoming = null;
/** The last fleet's view, to which a machine's page leads back. */
let fleetView = view.page === "fleet" ? view : parse("");
/** The time since when the connection is lost, and why; `null` while it lives. */
let lost = null;
let heardAt = null;
let isScheduled = false;
let drawn = "";

const summary = new Summary((kind, value) => go({ page: "fleet", [kind]: toggled(view[kind], value), number: 1 }));
const grid = new Grid((machine) => go({ page: "machine", mac: machine.mac }));
const table = new Table((change) => go(change));
const machinePage = new MachinePage(fleet);
const server = new Server();

/** Changes the view, and with it the address. */
function go(change, { replace = false } = {}) {
  const before = view;
  view = { ...view, ...change };
  const address = format(view);
  if (address !== format(before)) history[replace ? "replaceState" : "pushState"](null, "", address);
  arrive(before);
}

/** Shows the view after it has changed. The focus goes to the new page's title, or back to the link that led away. */
function arrive(before) {
  const isOther = before.page !== view.page || before.mac !== view.mac;
  if (view.page === "fleet") fleetView = view;
  showPage();
  render();
  if (!isOther) return;
  const link = before.page === "machine" && view.page === "fleet" ? document.querySelector(`#table a[data-mac="${CSS.escape(before.mac)}"]`) : null;
  if (link) link.focus();
  else {
    scrollTo(0, 0);
    const title = $(`${view.page}-title`);
    if (title) {
      title.tabIndex = -1;
      title.focus({ preventScroll: true });
    }
  }
}

function showPage() {
  for (const page of PAGES) $(`page-${page}`).hidden = page !== view.page;
  for (const link of document.querySelectorAll("nav [data-page]")) {
    setAttribute(link, "aria-current", link.dataset.page === view.page || (view.page === "machine" && link.dataset.page === "fleet") ? "page" : null);
  }
  if (view.page === "machine") machinePage.show(view.mac);
  else machinePage.hide();
  server.show(view.page);
}

function schedule() {
  if (isScheduled) return;
  isScheduled = true;
  requestAnimationFrame(() => {
    isScheduled = false;
    render();
  });
}

function render() {
  const now = lost === null ? fleet.now() : lost.now;
  if (view.page === "machine") machinePage.update(now);
  if (view.page !== "fleet") return;
  if (document.activeElement !== $("search") && $("search").value !== view.q) $("search").value = view.q;
  const machines = isFiltered(view) ? fleet.matching(view, now) : fleet.machines;
  const { q, clusters, stages } = view;
  summary.update(fleet, view, now);
  grid.update(fleet, machines, JSON.stringify([q, clusters, stages, fleet.expected, fleet.isComplete]), now);
  table.update(fleet, machines, view, now);
  showFilters(machines.length);
}

function showFilters(found) {
  const isOn = isFiltered(view);
  $("clear").hidden = !isOn;
  const text = isOn ? `${plural(found, "machine matches", "machines match")}` : "";
  setText($("matches"), text);
  const chips = [...view.stages.map((value) => ["stages", value, STEP_NAMES[value] ?? value]), ...view.clusters.map((value) => ["clusters", value, value])];
  keep($("chosen"), chips, ([kind, value]) => `${kind} ${value}`,
    ([kind, value, name]) => element("button", { type: "button", class: "chip", "aria-label": `Remove the filter ${name}`, onclick: () => go({ [kind]: toggled(view[kind], value), number: 1 }) }, name, element("span", { "aria-hidden": "true" }, "×")),
    () => {});
  const isEmpty = fleet.isComplete && fleet.expected === 0;
  setText($("none"), isEmpty ? "The spec has no machines yet. pxed reads it again when it changes." : isOn ? "No machine matches. Other words, or fewer filters, may find it." : "The fleet is being read.");
}

function live() {
  const was = lost;
  lost = null;
  heardAt = Date.now();
  document.body.classList.remove("stale");
  setAttribute($("connection"), "class", "live");
  setText($("connection-text"), "live");
  $("lost").hidden = true;
  if (was) server.reconnected();
}

function disconnected(reason) {
  if (lost === null) lost = { since: heardAt ?? Date.now(), now: fleet.now(), reason };
  lost.reason = reason;
  document.body.classList.add("stale");
  setAttribute($("connection"), "class", "lost");
  setText($("connection-text"), "connection lost");
  document.title = "Connection lost · pxed";
  $("lost").hidden = false;
  tellOfLoss();
}

function tellOfLoss() {
  if (lost === null) return;
  const what = fleet.isComplete ? `What you see is as of ${clock(lost.since)}.` : "Nothing is known of the fleet yet.";
  setText($("lost-text"), `No connection to pxed since ${clock(lost.since)} (${lost.reason}). ${what} Trying again by itself.`);
  setText($("lost-for"), duration(Date.now() - lost.since));
}

const feed = new Feed({
  begin(message) {
    // The machines stay in sight until the new ones are there, which takes a moment for a large fleet.
    incoming = new Fleet();
    incoming.begin(message);
    if (incoming.isComplete) adopt();
  },
  machines(rows) {
    if (incoming === null) return;
    incoming.add(rows);
    if (incoming.isComplete) adopt();
  },
  changed(message) {
    if (incoming !== null) return;
    live();
    fleet.change(message);
    if (message.rows.length > 0) schedule();
  },
  lost: disconnected,
  refused(error) {
    token.isNeeded = true;
    const why = token.get() ? "That was not pxed's admin token." : error.message;
    token.forget();
    disconnected("it asks for its token");
    askForToken(why).then((isGiven) => {
      if (isGiven) feed.connect();
    });
    return true;
  },
});

function adopt() {
  fleet.adopt(incoming);
  incoming = null;
  setText($("version"), fleet.version);
  live();
  schedule();
}

// Links within the page change the view; with a modifier they open a tab, as any link.
document.addEventListener("click", (event) => {
  if (event.defaultPrevented || event.button !== 0 || event.ctrlKey || event.metaKey || event.shiftKey || event.altKey) return;
  const link = event.target.closest?.("a");
  if (!link) return;
  const { page, mac, back } = link.dataset;
  if (mac) go({ page: "machine", mac });
  else if (back !== undefined) go(fleetView);
  else if (page === "fleet") go(view.page === "machine" ? fleetView : { ...parse("") });
  else if (page) go({ page, mac: null });
  else return;
  event.preventDefault();
});
addEventListener("popstate", () => {
  const before = view;
  view = parse(location.search);
  arrive(before);
});
addEventListener("pagehide", () => feed.close());
addEventListener("pageshow", (event) => {
  if (event.persisted) feed.connect();
});
$("search-form").addEventListener("submit", (event) => event.preventDefault());
$("search").addEventListener("input", () => go({ q: $("search").value, number: 1 }, { replace: true }));
$("clear").addEventListener("click", () => {
  $("search").value = "";
  go({ q: "", clusters: [], stages: [], number: 1 });
  $("search").focus();
});

// Ages grow without events.
setInterval(() => {
  tellOfLoss();
  if (lost === null && document.visibilityState === "visible") schedule();
  const text = heardAt === null ? "" : `${plural(fleet.machines.length, "machine", "machines")}, as of ${clock(heardAt)}`;
  if (text !== drawn) setText($("as-of"), (drawn = text));
}, 1000);

showPage();
render();
feed.connect();
