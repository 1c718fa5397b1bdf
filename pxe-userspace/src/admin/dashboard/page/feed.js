// The connection to pxed: the stream of the fleet. It says when the connection is lost, and recovers by itself.
//
// The stream is read with fetch() and not with an EventSource, which neither carries a token nor says why it was refused.

import { headers, token, Refused } from "./api.js";

/** pxed says something every second. After this time without a word it is taken to be gone, although the connection looks open. */
const SILENCE = 3000;
const FIRST_RETRY = 500;
const LAST_RETRY = 4000;

export class Feed {
  #handlers;
  #retry = FIRST_RETRY;
  #abort = null;
  #watchdog = 0;
  #again = 0;

  /** `handlers`: an object with a function for each event, `lost(reason)` and `refused(error)`. */
  constructor(handlers) {
    this.#handlers = handlers;
  }

  async connect() {
    clearTimeout(this.#again);
    this.#abort?.abort();
    const abort = new AbortController();
    this.#abort = abort;
    let reason = "pxed has closed the connection";
    try {
      this.#watch(abort);
      const response = await fetch("/dashboard/fleet", {
        cache: "no-store",
        headers: headers(token.isNeeded),
        signal: abort.signal,
      });
      if (!response.ok) {
        const refusal = new Refused(response.status, await response.json().catch(() => null));
        if (response.status === 401 && this.#handlers.refused(refusal)) return;
        throw refusal;
      }
      await this.#read(response.body.getReader(), abort);
    } catch (error) {
      if (this.#abort !== abort) return;
      if (error instanceof Refused) reason = error.message;
      else if (abort.signal.aborted) reason = "pxed says nothing";
    }
    if (this.#abort !== abort) return;
    clearTimeout(this.#watchdog);
    this.#handlers.lost(reason);
    // Pages that lost the same pxed do not all come back at once.
    const wait = this.#retry * (0.75 + Math.random() / 2);
    this.#retry = Math.min(this.#retry * 2, LAST_RETRY);
    this.#again = setTimeout(() => this.connect(), wait);
  }

  /** Closes the connection: a page that the browser keeps for the way back must not hold it. */
  close() {
    clearTimeout(this.#again);
    clearTimeout(this.#watchdog);
    const abort = this.#abort;
    this.#abort = null;
    abort?.abort();
  }

  #watch(abort) {
    clearTimeout(this.#watchdog);
    this.#watchdog = setTimeout(() => abort.abort(), SILENCE);
  }

  async #read(reader, abort) {
    const decoder = new TextDecoder();
    let rest = "";
    for (;;) {
      const { done, value } = await reader.read();
      if (done) return;
      this.#watch(abort);
      const text = rest + decoder.decode(value, { stream: true });
      const messages = text.split("\n\n");
      rest = messages.pop();
      for (const message of messages) this.#take(message);
    }
  }

  #take(message) {
    let name = "";
    let data = "";
    for (const line of message.split("\n")) {
      if (line.startsWith("event: ")) name = line.slice(7);
      else if (line.startsWith("data: ")) data += line.slice(6);
    }
    if (!data || !Object.hasOwn(this.#handlers, name)) return;
    if (name === "changed") this.#retry = FIRST_RETRY;
    this.#handlers[name](JSON.parse(data));
  }
}
