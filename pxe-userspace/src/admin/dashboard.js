"use strict";
// Values from the API become text (textContent), never markup.

const SHOWN = 200;
const LINES = 40;
let chosen = null;
let stale = true;

const $ = (id) => document.getElementById(id);

function element(name, text, className) {
  const made = document.createElement(name);
  made.textContent = text;
  if (className) made.className = className;
  return made;
}

async function get(path) {
  const answer = await fetch(path, { cache: "no-store" });
  if (!answer.ok) throw new Error(`${path}: ${answer.status}`);
  return answer.json();
}

function showStages(stages) {
  const total = Object.values(stages).reduce((sum, count) => sum + count, 0);
  $("total").textContent = `${total} machines`;
  const buttons = Object.entries(stages).filter(([stage, count]) => count > 0 || stage === chosen).map(([stage, count]) => {
    const button = element("button", stage, stage);
    button.append(element("b", count));
    button.setAttribute("aria-pressed", String(stage === chosen));
    button.onclick = () => { chosen = chosen === stage ? null : stage; refresh(); };
    return button;
  });
  $("stages").replaceChildren(...buttons);
  return chosen === null ? total : stages[chosen];
}

function row(machine) {
  const made = document.createElement("tr");
  made.append(
    element("td", machine.mac, "mono"),
    element("td", machine.address, "mono"),
    element("td", machine.cluster),
    element("td", machine.stage, machine.stage),
    element("td", machine.stage_since.slice(0, 19).replace("T", " ")),
    element("td", machine.boots),
    element("td", machine.boots_from),
    element("td", machine.last_error ?? ""),
  );
  return made;
}

function specError({ file, line, column, field, message, objects, left_out, kept }) {
  const place = line > 0 ? `${file}:${line}:${column}` : file;
  const counted = [[left_out, "left out"], [kept, "as before"]].filter(([count]) => count > 0);
  const consequences = counted.map(([count, what]) => `; ${count} ${objects}${count === 1 ? "" : "s"} ${what}`).join("");
  return element("li", `${place}: ${field ? `${field}: ` : ""}${message}${consequences}`);
}

async function refresh() {
  stale = false;
  try {
    const stage = chosen === null ? "" : `&stage=${encodeURIComponent(chosen)}`;
    const [stages, errors, machines] = await Promise.all([
      get("/api/v1/stages"),
      get("/api/v1/spec/errors"),
      get(`/api/v1/machines?events=0&limit=${SHOWN}${stage}`),
    ]);
    const count = showStages(stages);
    $("errors").replaceChildren(...errors.slice(0, LINES).map(specError));
    $("machines").replaceChildren(...machines.map(row));
    $("note").textContent = count > machines.length ? `The first ${machines.length} of ${count} machines are shown.` : "";
  } catch (error) {
    $("note").textContent = `pxed does not answer: ${error.message}`;
    stale = true;
  }
}

function show(line) {
  const events = $("events");
  events.prepend(element("div", line));
  while (events.childElementCount > LINES) events.lastElementChild.remove();
}

const source = new EventSource("/api/v1/events");
source.addEventListener("boot", (message) => {
  const event = JSON.parse(message.data);
  show(`${event.at.slice(11, 23)}  ${event.mac}  ${event.text}`);
  stale = true;
});
source.addEventListener("lagged", (message) => {
  show(`… ${JSON.parse(message.data).missed} events are not shown`);
  stale = true;
});

// However many events there are, the page refreshes once a second.
setInterval(() => { if (stale) refresh(); }, 1000);
refresh();
