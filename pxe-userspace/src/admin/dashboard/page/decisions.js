// Holding and releasing a machine. TCP needs the admin token for it, or allows reads only.

import { post, token } from "./api.js";
import { $, setText } from "./dom.js";

/** Asks for the token. Returns `true` if a person gave one. */
export function askForToken(why) {
  const dialog = $("token-dialog");
  if (dialog.open) return Promise.resolve(false);
  setText($("token-why"), why);
  $("token").value = "";
  dialog.returnValue = "";
  dialog.showModal();
  return new Promise((resolve) => {
    dialog.addEventListener("close", () => {
      const text = $("token").value.trim();
      $("token").value = "";
      const isGiven = dialog.returnValue === "use" && text !== "";
      if (isGiven) token.set(text);
      resolve(isGiven);
    }, { once: true });
  });
}

/** Returns what a person types on pxed's host instead. */
export const command = (decision, mac) => `pxed ${decision} ${mac}`;

/**
 * Holds or releases a machine. `changes` says how this address lets changes through: `free`, `with-token` or `never`. Returns the machine
 * as it is afterwards, or `null` if the person gave up; throws what pxed answers.
 */
export async function decide(decision, mac, changes) {
  const path = `/api/v1/machines/${encodeURIComponent(mac)}/${decision}`;
  if (changes === "with-token" && !token.get()) {
    if (!(await askForToken(`To ${decision} a machine, this address needs pxed's admin token.`))) return null;
  }
  for (;;) {
    try {
      return await post(path);
    } catch (error) {
      if (error.status !== 401) throw error;
      token.forget();
      if (!(await askForToken("That was not pxed's admin token."))) return null;
    }
  }
}
