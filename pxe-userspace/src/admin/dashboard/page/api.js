// Requests to the API of pxed, with the token if a person has given it.

const KEY = "pxed-token";
const LIMIT = 10_000;

export class Refused extends Error {
  constructor(status, answer) {
    super(answer?.error ?? `pxed answers ${status}`);
    this.status = status;
    this.socket = answer?.socket;
  }
}

export const token = {
  get: () => sessionStorage.getItem(KEY),
  set: (text) => sessionStorage.setItem(KEY, text),
  forget: () => sessionStorage.removeItem(KEY),
};

export function headers(withToken) {
  const text = withToken ? token.get() : null;
  return text ? { authorization: `Bearer ${text}` } : {};
}

async function answer(path, options) {
  const response = await fetch(path, { ...options, signal: AbortSignal.timeout(LIMIT) });
  const text = await response.text();
  let value = null;
  try {
    value = JSON.parse(text);
  } catch {
    // Not the API's answer: the status says enough.
  }
  if (!response.ok) throw new Refused(response.status, value);
  return value;
}

/** GETs a path. The browser asks by ETag whether what it has is still true. */
export const get = (path) => answer(path, { cache: "no-cache", headers: headers(token.isNeeded) });

/** POSTs a decision. */
export const post = (path) =>
  answer(path, { method: "POST", headers: { "content-type": "application/json", ...headers(true) } });
