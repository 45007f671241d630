"use strict";
const data = JSON.parse(document.getElementById("data").textContent);
const still = matchMedia("(prefers-reduced-motion: reduce)");
const clamp = (value, most) => Math.min(most, Math.max(-most, value));
const signed = (value) => (value === null ? "   ?" : (value < 0 ? "" : "+") + value.toFixed(1)).padStart(6);

async function picture(source) {
  const image = new Image();
  image.src = source;
  await image.decode();
  return image;
}

/* A face: what is asked of it, and its canvas. Drawers give drawn(): what is shown, or null. */
class Face {
  constructor(told, figure) {
    this.told = told;
    this.canvas = figure.querySelector("canvas");
    this.corner = figure.querySelector(".corner");
    this.context = this.canvas.getContext("2d", { willReadFrequently: true });
    this.asked = null;
    for (const button of figure.querySelectorAll("button")) {
      button.addEventListener("click", () => this.ask(button.dataset.do === "camera" ? [0, 0] : null));
    }
    this.canvas.addEventListener("keydown", (event) => this.key(event));
  }

  /* Look to [pitch, yaw] in degrees; null: as in the photo. */
  ask(angles) {
    const reach = this.told.reach;
    this.asked = angles && [clamp(angles[0], reach[0]), clamp(angles[1], reach[1])];
    this.draw();
  }

  /* Look at a point of the window: a face's width away is as far as it goes. */
  follow(x, y) {
    const box = this.canvas.getBoundingClientRect();
    if (!box.width) return;
    const share = Math.min(box.width / this.canvas.width, box.height / this.canvas.height);
    const left = box.left + (box.width - share * this.canvas.width) / 2;
    const top = box.top + (box.height - share * this.canvas.height) / 2;
    const dx = x - left - share * this.told.between[0];
    const dy = y - top - share * this.told.between[1];
    const far = 0.7 * share * this.canvas.width;
    const reach = this.told.reach;
    this.ask([(-dy / far) * reach[0], (-dx / far) * reach[1]]);
  }

  key(event) {
    const step = this.told.step, from = this.asked || [0, 0];
    const moves = { ArrowUp: [step[0], 0], ArrowDown: [-step[0], 0], ArrowLeft: [0, step[1]],
      ArrowRight: [0, -step[1]] };
    const move = moves[event.key], key = event.key.toLowerCase();
    if (event.ctrlKey || event.altKey || event.metaKey) return;
    if (move) this.ask([from[0] + move[0], from[1] + move[1]]);
    else if (key === "0") this.ask([0, 0]);
    else if (key === "s") this.ask(null);
    else return;
    event.preventDefault();
  }

  /* Say what is shown: to everybody in the corner, where it is asked for, and to screen readers. */
  tell(lines) {
    const asked = this.asked;
    const way = (value, more, less) => `${Math.abs(value).toFixed(0)} degrees ${value < 0 ? less : more}`;
    this.canvas.setAttribute("aria-label", asked === null ? `${this.told.name}, as in the photo`
      : `${this.told.name}, looking ${way(asked[0], "up", "down")} and `
        + way(asked[1], "to the left of the picture", "to the right of the picture"));
    this.corner.textContent = ["degrees      up   left", ...lines].join("\n");
    this.canvas.dataset.asked = asked === null ? "" : asked.map((one) => one.toFixed(2)).join(" ");
  }
}

/* A face whose pictures were made beforehand. */
class Atlas extends Face {
  async open() {
    [this.base, this.cells] = await Promise.all([this.told.base, this.told.cells].map(picture));
    this.draw();
  }

  nearest(values, wanted) {
    let best = 0;
    values.forEach((one, at) => { if (Math.abs(one - wanted) < Math.abs(values[best] - wanted)) best = at; });
    return best;
  }

  draw() {
    const { told, context } = this;
    if (!this.cells) return;
    context.drawImage(this.base, 0, 0);
    const lines = [];
    if (this.asked) {
      const row = this.nearest(told.pitches, this.asked[0]), column = this.nearest(told.yaws, this.asked[1]);
      const [left, top, width, height] = told.box, cell = row * told.yaws.length + column;
      context.drawImage(this.cells, column * width, row * height, width, height, left, top, width, height);
      this.canvas.dataset.cell = cell;
      lines.push(`asked   ${told.used[cell].map(signed).join(" ")}`);
      if (told.measured) lines.push(`measured${told.measured[cell].map(signed).join(" ")}`);
    } else {
      delete this.canvas.dataset.cell;
      lines.push(`source  ${told.gaze.map(signed).join(" ")}`);
    }
    this.tell(lines);
  }
}

let faces = [];

function watch() {
  const quiet = () => { document.getElementById("still").hidden = !still.matches; };
  still.addEventListener("change", quiet);
  quiet();
  const all = (event) => {
    if (event.target.closest && event.target.closest("button, input, label")) return;
    for (const face of faces) face.follow(event.clientX, event.clientY);
  };
  addEventListener("pointermove", (event) => { if (!still.matches) all(event); });
  addEventListener("pointerdown", all);
  const box = document.getElementById("degrees");
  const show = () => { for (const face of faces) face.corner.hidden = !box.checked; };
  box.addEventListener("change", show);
  addEventListener("keydown", (event) => {
    if (event.key.toLowerCase() !== "m" || event.ctrlKey || event.altKey || event.metaKey) return;
    box.checked = !box.checked;
    show();
  });
  show();
}

async function begin(kind) {
  const figures = document.querySelectorAll("figure");
  faces = data.faces.map((told, at) => new kind(told, figures[at]));
  watch();
  await Promise.all(faces.map((face) => face.open()));
  document.documentElement.dataset.ready = "yes";
}
