// The shape of a machine by its look: a square fills as the boot goes on, so that nobody needs to tell colours apart.

import { STEPS } from "./fleet.js";

let colours = null;
const dark = matchMedia("(prefers-color-scheme: dark)");
dark.addEventListener("change", () => (colours = null));

/** Calls `then` when the colours have changed. */
export const onColours = (then) => dark.addEventListener("change", then);

/** Returns the colour of a look, from the style sheet. */
export function colour(look) {
  if (colours === null) {
    const style = getComputedStyle(document.documentElement);
    colours = (name) => style.getPropertyValue(`--${name}`).trim() || "#888";
  }
  return colours(look);
}

/** Draws the shape of a look into the square at x, y. */
export function draw(context, look, x, y, size) {
  const middle = size / 2;
  context.fillStyle = colour(look);
  context.strokeStyle = colour(look);
  switch (look) {
    case "failed": {
      const width = Math.max(1.6, size * 0.26);
      context.lineWidth = width;
      context.beginPath();
      const [near, far] = [width / 2, size - width / 2];
      context.moveTo(x + near, y + near);
      context.lineTo(x + far, y + far);
      context.moveTo(x + far, y + near);
      context.lineTo(x + near, y + far);
      context.stroke();
      return;
    }
    case "stuck":
      context.beginPath();
      context.moveTo(x + middle, y);
      context.lineTo(x + size, y + size);
      context.lineTo(x, y + size);
      context.closePath();
      context.fill();
      return;
    case "disk":
      context.beginPath();
      context.arc(x + middle, y + middle, middle, 0, 2 * Math.PI);
      context.fill();
      return;
    case "never-seen": {
      const dot = Math.max(2, Math.round(size * 0.32));
      context.fillRect(x + Math.round((size - dot) / 2), y + Math.round((size - dot) / 2), dot, dot);
      return;
    }
    case "up":
      context.fillRect(x, y, size, size);
      return;
    default: {
      // Asking is empty, initramfs nearly full.
      const level = Math.max(0, STEPS.indexOf(look) - 1) / (STEPS.length - 2);
      const line = size < 9 ? 1 : 1.5;
      context.lineWidth = line;
      context.strokeRect(x + line / 2, y + line / 2, size - line, size - line);
      const height = Math.round(level * (size - 2 * line));
      context.fillRect(x + line, y + size - line - height, size - 2 * line, height);
    }
  }
}

/** Returns a small canvas with the shape of a look, for legends. Text beside it says the same. */
export function icon(look, size = 11) {
  const canvas = document.createElement("canvas");
  canvas.setAttribute("aria-hidden", "true");
  canvas.className = "shape";
  canvas.dataset.look = look;
  paint(canvas, look, size);
  return canvas;
}

/** Paints the shape of a look on a canvas of its own. */
export function paint(canvas, look, size = 11) {
  const ratio = devicePixelRatio || 1;
  canvas.dataset.look = look;
  canvas.width = canvas.height = size * ratio;
  canvas.style.width = canvas.style.height = `${size}px`;
  const context = canvas.getContext("2d");
  context.scale(ratio, ratio);
  draw(context, look, 0, 0, size);
}

/** Paints every shape again, after the colours have changed. */
export function repaint() {
  for (const canvas of document.querySelectorAll("canvas.shape")) paint(canvas, canvas.dataset.look);
}
