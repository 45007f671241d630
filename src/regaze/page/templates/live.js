/* A face that a model in the page draws; see regaze.page.live for what is told. */
const RADIANS = Math.PI / 180;
const state = document.getElementById("state");
const soft = (value) => { const v = Math.min(1, Math.max(0, value)); return v * v * (3 - 2 * v); };

async function blob(text) {
  const bytes = await fetch("data:application/octet-stream;base64," + text);
  return new Response(bytes.body.pipeThrough(new DecompressionStream("gzip"))).arrayBuffer();
}
const held = (name) => blob(document.getElementById("blob-" + name).textContent);

let ort, sessions = {};

async function load() {
  // Unpacked beside the runtime, which is compiled meanwhile.
  const graphs = data.graphs.map(held);
  const [script, wasm] = await Promise.all(["script", "wasm"].map(held));
  const address = URL.createObjectURL(new Blob([script], { type: "text/javascript" }));
  ort = await import(address);
  const asked = Number(new URLSearchParams(location.search).get("threads"));
  const most = crossOriginIsolated ? Math.min(4, navigator.hardwareConcurrency || 1) : 1;
  ort.env.wasm.numThreads = asked >= 1 ? Math.min(asked, crossOriginIsolated ? 16 : 1) : most;
  ort.env.wasm.wasmBinary = wasm;
  ort.env.logLevel = "error";
  for (const [at, name] of data.graphs.entries()) {
    const options = { executionProviders: ["wasm"], graphOptimizationLevel: "all" };
    sessions[name] = await ort.InferenceSession.create(new Uint8Array(await graphs[at]), options);
  }
}

const tensor = (values, shape) => new ort.Tensor("float32", Float32Array.from(values), shape);

function fed(session, told) {
  return Object.fromEntries(session.inputNames.map((name) => [name, told[name]]));
}

class Live extends Face {
  async open() {
    const told = this.told;
    this.base = await picture(told.base);
    this.context.drawImage(this.base, 0, 0);
    const [source, places, weight, eyes] = await Promise.all(
      [told.source, told.places, told.weight, told.eyes].map(blob));
    this.scene = { box: told.box, places: new Int16Array(places), weight: new Uint8Array(weight),
      eyes: new Uint8Array(eyes), gain: told.gain, pixels: this.region(told.box) };
    const size = data.size;
    this.source = { source: new ort.Tensor("float32", new Float32Array(source), [1, 3, size, size]),
      source_gaze: tensor(told.gaze, [1, 2]), source_head: tensor(told.head, [1, 2]) };
    for (const [name, values] of Object.entries(told.noise)) {
      this.source[name] = new ort.Tensor("float32", new Float32Array(await blob(values)),
        [1, 3, size, size]);
    }
    this.prepare(this.scene);
    await this.invert();
    this.asked = [0, 0];
    await this.made();
    this.ask(null);
  }

  region(box) { return this.context.getImageData(...box).data; }

  async invert() {
    const session = sessions.invert;
    this.kept = session ? await session.run(fed(session, this.source)) : {};
  }

  draw() {
    this.waiting = true;
    if (!this.busy) this.work();
  }

  /* Only what was asked last is made. */
  async work() {
    this.busy = true;
    try {
      while (this.waiting) {
        this.waiting = false;
        if (this.asked === null && !this.video) {
          this.context.drawImage(this.base, 0, 0);
          this.tell([`source  ${this.told.gaze.map((one) => signed(one / RADIANS)).join(" ")}`]);
        } else {
          await this.made();
        }
        await new Promise((done) => setTimeout(done));
      }
    } catch (error) {
      state.textContent = `The model failed: ${error.message}`;
      throw error;
    } finally {
      this.busy = false;
    }
  }

  async made() {
    const began = performance.now(), asked = this.asked || [0, 0];
    const told = { ...this.source, ...this.kept,
      target_gaze: tensor(asked.map((one) => one * RADIANS), [1, 2]),
      target_head: this.source.source_head };
    const found = await sessions.edit.run(fed(sessions.edit, told));
    this.pictures = found.pictures.data;
    this.spent = performance.now() - began;
    this.put(this.scene, this.source.source.data, this.pictures);
    this.canvas.dataset.spent = this.spent.toFixed(1);
    this.tell([`asked   ${asked.map(signed).join(" ")}`, `${this.spent.toFixed(0)} ms, ${ort.env.wasm.numThreads} thread(s)`]);
  }

  /* Where each pixel reads the model's picture: index of four neighbours, and their shares. */
  prepare(scene) {
    const size = data.size, count = scene.weight.length, last = size - 1;
    scene.used = [];
    for (let at = 0; at < count; at++) if (scene.weight[at]) scene.used.push(at);
    scene.corner = new Int32Array(scene.used.length);
    scene.across = new Float32Array(scene.used.length);
    scene.down = new Float32Array(scene.used.length);
    scene.used.forEach((at, n) => {
      const x = Math.min(last - 1e-3, Math.max(0, scene.places[at] / 64));
      const y = Math.min(last - 1e-3, Math.max(0, scene.places[count + at] / 64));
      scene.corner[n] = Math.floor(y) * size + Math.floor(x);
      scene.across[n] = x - Math.floor(x);
      scene.down[n] = y - Math.floor(y);
    });
  }

  /* Add what the model changed to the picture. Where it changed much, what the photo has of finer
     detail is of something that is gone, and fades: as regaze.redirect.paste does it. */
  put(scene, source, made) {
    const size = data.size, plane = size * size, [left, top, width, height] = scene.box;
    const delta = new Float32Array(3 * plane), much = new Float32Array(plane);
    for (let at = 0; at < 3 * plane; at++) delta[at] = (made[at] - source[at]) * 127.5;
    for (let at = 0; at < plane; at++) {
      much[at] = Math.max(Math.abs(delta[at]), Math.abs(delta[plane + at]), Math.abs(delta[2 * plane + at]));
    }
    const image = new ImageData(width, height), out = image.data, { pixels, gain } = scene;
    out.set(pixels);
    const at4 = (values, from, n) => {
      const c = from + scene.corner[n], x = scene.across[n], y = scene.down[n];
      return (1 - y) * ((1 - x) * values[c] + x * values[c + 1])
        + y * ((1 - x) * values[c + size] + x * values[c + size + 1]);
    };
    for (let n = 0; n < scene.used.length; n++) {
      const at = scene.used[n], share = scene.weight[at] / 255, amount = at4(much, 0, n);
      const gone = Math.max(soft((amount - 10) / 22), (scene.eyes[at] / 255) * soft((amount - 2) / 8));
      for (let channel = 0; channel < 3; channel++) {
        const here = pixels[4 * at + channel];
        let change = at4(delta, channel * plane, n) / gain;
        if (gone && scene.offset) {
          const seen = ((at4(source, channel * plane, n) + 1) * 127.5 - scene.offset[channel]) / gain;
          change -= gone * (here - seen);
        }
        out[4 * at + channel] = here + share * change;
      }
    }
    this.context.putImageData(image, left, top);
  }

  /* The webcam's middle square instead of the photo. Nothing is looked for in it: whoever sits there
     puts the eyes on the two marks, and looks into the camera. */
  async film(video) {
    this.video = video;
    const { canvas, context } = this, size = data.size;
    canvas.width = 480;
    canvas.height = 480;
    canvas.parentElement.style.setProperty("--ratio", "1 / 1");
    this.told = { ...this.told, between: [240, 150], name: "webcam" };
    const small = Object.assign(document.createElement("canvas"), { width: size, height: size });
    const reading = small.getContext("2d", { willReadFrequently: true });
    const side = canvas.width, count = side * side;
    const scene = { box: [0, 0, side, side], places: new Int16Array(2 * count),
      weight: new Uint8Array(count), eyes: new Uint8Array(count), gain: 1, offset: null };
    for (let y = 0; y < side; y++) {
      for (let x = 0; x < side; x++) {
        const at = y * side + x, rim = Math.min(x, y, side - 1 - x, side - 1 - y);
        scene.places[at] = (((x + 0.5) * size) / side - 0.5) * 64;
        scene.places[count + at] = (((y + 0.5) * size) / side - 0.5) * 64;
        scene.weight[at] = 255 * soft(rim / (0.12 * side));
      }
    }
    this.prepare(scene);
    this.scene = scene;
    this.source.source_gaze = tensor([0, 0], [1, 2]);
    this.source.source_head = tensor([0, 0], [1, 2]);
    this.asked = this.asked || [0, 0];
    const frame = async () => {
      const edge = Math.min(video.videoWidth, video.videoHeight);
      if (edge && !this.busy) {
        this.busy = true;
        const from = [(video.videoWidth - edge) / 2, (video.videoHeight - edge) / 2, edge, edge];
        context.drawImage(video, ...from, 0, 0, side, side);
        reading.drawImage(video, ...from, 0, 0, size, size);
        const seen = reading.getImageData(0, 0, size, size).data, plane = size * size;
        const values = new Float32Array(3 * plane);
        for (let at = 0; at < plane; at++) {
          for (let channel = 0; channel < 3; channel++) {
            values[channel * plane + at] = seen[4 * at + channel] / 127.5 - 1;
          }
        }
        this.source.source = new ort.Tensor("float32", values, [1, 3, size, size]);
        scene.pixels = this.region(scene.box);
        await this.invert();
        await this.made();
        context.strokeStyle = "rgba(255, 255, 255, 0.8)";
        context.lineWidth = 2;
        for (const [x0, y0, x1, y1] of data.eye_boxes) {
          const scale = side / size;
          context.strokeRect(x0 * scale, y0 * scale, (x1 - x0) * scale, (y1 - y0) * scale);
        }
        canvas.dataset.frames = Number(canvas.dataset.frames || 0) + 1;
        this.busy = false;
      }
      requestAnimationFrame(frame);
    };
    requestAnimationFrame(frame);
  }
}

function offer() {
  const button = document.getElementById("webcam");
  button.addEventListener("click", async () => {
    button.disabled = true;
    try {
      const stream = await navigator.mediaDevices.getUserMedia({ video: true, audio: false });
      const video = Object.assign(document.createElement("video"), { srcObject: stream, muted: true });
      await video.play();
      await faces[0].film(video);
      state.textContent = "Put your eyes on the two marks and look into the camera. Nothing leaves this page.";
    } catch (error) {
      button.disabled = false;
      state.textContent = `No webcam: ${error.message}`;
    }
  });
}

(async () => {
  const began = performance.now();
  try {
    await load();
    await begin(Live);
    const spent = (performance.now() - began) / 1000;
    document.documentElement.dataset.seconds = spent.toFixed(2);
    state.textContent = `The model runs in this page (${ort.env.wasm.numThreads} thread(s), ready after ${spent.toFixed(1)} s).`;
    offer();
  } catch (error) {
    state.textContent = `The model cannot run here: ${error.message}`;
    throw error;
  }
})();
