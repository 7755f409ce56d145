// A radiograph in a square box: window and level at full depth, zoom, move and invert, all drawn here.
//
// Data: 4 bytes (length of the header, little endian), the header (JSON), then the pixels, 8 or 16 bit little endian.
// Streamlit calls the default function again whenever the page runs; everything that must survive that (window, zoom)
// is kept per element and is only reset when the header names another image.
//
// The view (window, zoom, place, inverted) starts as the address of the page says for this image. A little after the
// reader has changed it, it is written there without a new entry of the history, and told to the server as "viewed".

const viewers = new WeakMap();

export default function (component) {
  const { parentElement, data, setStateValue } = component;
  let viewer = viewers.get(parentElement);
  if (!viewer || !viewer.box.isConnected) {
    viewer?.leave();
    viewer = new Viewer(parentElement);
    viewers.set(parentElement, viewer);
  }
  viewer.askForDetail = (image) => setStateValue("detail", image);
  viewer.tell = (said) => setStateValue("viewed", said);
  viewer.show(data);
  return () => {
    if (viewer.box.isConnected) return; // also called for a run that was overtaken by the next one
    viewer.leave();
    viewers.delete(parentElement);
  };
}

const REST = 350; // milliseconds after the last change before a view is told
const clamp = (value, low, high) => Math.min(high, Math.max(low, value));

class Viewer {
  constructor(root) {
    this.box = root.querySelector(".box");
    this.canvas = root.querySelector("canvas");
    this.source = document.createElement("canvas"); // the image after the window, at its own size
    this.table = new Uint8ClampedArray(65536); // pixel value -> grey on screen
    this.header = null;
    this.drag = null;
    this.hover = false;
    this.keep = false; // the window stays for the next image
    this.frame = 0;
    this.stop = new AbortController();
    const on = (target, type, act, options = {}) => target.addEventListener(type, act, { signal: this.stop.signal, ...options });
    on(this.canvas, "pointerdown", (event) => this.grab(event));
    on(this.canvas, "pointermove", (event) => this.move(event));
    on(this.canvas, "pointerup", (event) => this.release(event));
    on(this.canvas, "pointercancel", (event) => this.release(event));
    on(this.canvas, "contextmenu", (event) => event.preventDefault());
    on(this.canvas, "dblclick", () => this.reset());
    on(this.canvas, "wheel", (event) => this.wheel(event), { passive: false });
    on(this.box, "pointerenter", () => (this.hover = true));
    on(this.box, "pointerleave", () => (this.hover = false));
    on(document, "keydown", (event) => this.key(event));
    for (const button of this.box.querySelectorAll("button")) on(button, "click", () => this.act(button.dataset.does));
    this.sizes = new ResizeObserver(() => this.draw());
    this.sizes.observe(this.box);
  }

  leave() {
    this.stop.abort();
    this.sizes.disconnect();
    cancelAnimationFrame(this.frame);
    clearTimeout(this.resting);
  }

  show(data) {
    if (!data || data.length < 4) return;
    const bytes = data instanceof Uint8Array ? data : new Uint8Array(data);
    const length = new DataView(bytes.buffer, bytes.byteOffset, 4).getUint32(0, true);
    const header = JSON.parse(new TextDecoder().decode(bytes.subarray(4, 4 + length)));
    const other = !this.header || this.header.image !== header.image;
    const redo = other || this.header.width !== header.width || this.header.height !== header.height || !!this.header.failed !== !!header.failed;
    this.header = header;
    this.box.querySelector(".caption").textContent = header.caption;
    this.box.dataset.pixels = header.failed ? "" : `${header.width} x ${header.height}`;
    this.canvas.setAttribute("aria-label", header.alt);
    this.box.classList.toggle("none", !!header.failed);
    const failed = this.box.querySelector(".failed");
    failed.hidden = !header.failed;
    failed.children[0].textContent = header.failed ? header.failed[0] : "";
    failed.children[1].textContent = header.failed ? header.failed[1] : "";
    if (header.failed) {
      this.pixels = null;
      return;
    }
    if (redo) {
      const copy = bytes.slice(4 + length); // a copy starts at an even address, as 16 bit need
      this.pixels = header.bits === 8 ? copy : new Uint16Array(copy.buffer);
      this.source.width = header.width;
      this.source.height = header.height;
      this.image = new ImageData(header.width, header.height);
    }
    if (other) this.begin();
    this.window();
  }

  // Another image: as the address says, with the window of the last one if that is to stay, or as it comes.
  begin() {
    const last = this.keep && this.view ? { ...this.view, scale: this.full } : null;
    clearTimeout(this.resting);
    this.home();
    if (last) {
      this.view.width = (last.width / last.scale) * this.full;
      this.view.level = (last.level / last.scale) * this.full;
      this.view.inverted = last.inverted;
      this.rest();
      return;
    }
    const address = new URLSearchParams(location.search);
    const said = address.get("record") === this.header.address ? address.get("view") : null;
    const [contrast, brightness, zoom, x, y, inverted] = (said ?? "").split("_");
    const numbers = [contrast, brightness, zoom, x, y].map(Number);
    if (!said || numbers.length !== 5 || !numbers.every(Number.isFinite) || numbers[0] <= 0) return;
    this.view.width = clamp(this.full / numbers[0], this.full / 100, this.full * 4);
    this.view.level = clamp((1 - numbers[1]) * this.full, 0, this.full);
    this.view.zoom = clamp(numbers[2], 1, 16);
    this.view.x = numbers[3];
    this.view.y = numbers[4];
    this.view.inverted = inverted === "i";
    this.keepInside();
    this.detail();
  }

  // The view in letters that need no escaping in an address; "" for as it comes.
  words() {
    const { width, level, zoom, x, y, inverted } = this.view;
    const numbers = [this.full / width, 1 - level / this.full, zoom, x, y].map((value) => String(Number(value.toFixed(4))));
    const said = numbers.join("_") + (inverted ? "_i" : "");
    return said === "1_0.5_1_0.5_0.5" ? "" : said;
  }

  // To be called after every change by the reader.
  rest() {
    clearTimeout(this.resting);
    this.resting = setTimeout(() => {
      if (this.drag || !this.pixels) return this.drag && this.rest();
      const said = { image: this.header.image, view: this.words() };
      write("record", this.header.address);
      write("view", said.view);
      this.tell(said);
    }, REST);
  }

  home() {
    const top = this.header.bits === 8 ? 255 : 65535;
    this.full = top;
    this.view = { width: top, level: top / 2, zoom: 1, x: 0.5, y: 0.5, inverted: false };
    this.asked = false;
  }

  reset() {
    this.home();
    this.window();
    this.rest();
  }

  // Window: the look-up table, then every pixel, once per frame at most.
  window() {
    this.stale = true;
    this.draw();
  }

  draw() {
    if (this.frame || !this.pixels) return;
    this.frame = requestAnimationFrame(() => {
      this.frame = 0;
      if (!this.pixels) return;
      if (this.stale) this.tint();
      this.paint();
      this.label();
    });
  }

  tint() {
    this.stale = false;
    const { width, level, inverted } = this.view;
    const low = level - width / 2;
    const table = this.table;
    for (let value = 0; value <= this.full; value++) {
      const grey = ((value - low) * 255) / width;
      table[value] = inverted ? 255 - grey : grey;
    }
    const out = new Uint32Array(this.image.data.buffer);
    const pixels = this.pixels;
    for (let at = 0; at < pixels.length; at++) out[at] = (table[pixels[at]] * 0x010101) | 0xff000000;
    this.source.getContext("2d").putImageData(this.image, 0, 0);
  }

  paint() {
    const side = Math.round(this.box.clientWidth * (window.devicePixelRatio || 1));
    if (!side) return;
    if (this.canvas.width !== side) this.canvas.width = this.canvas.height = side;
    const pen = this.canvas.getContext("2d");
    const scale = this.scale(side);
    pen.setTransform(1, 0, 0, 1, 0, 0);
    pen.fillStyle = "#000";
    pen.fillRect(0, 0, side, side);
    pen.imageSmoothingEnabled = scale < 6; // from there on, show the pixels as they are
    pen.imageSmoothingQuality = "high";
    pen.setTransform(scale, 0, 0, scale, side / 2 - this.view.x * this.header.width * scale, side / 2 - this.view.y * this.header.height * scale);
    pen.drawImage(this.source, 0, 0);
  }

  scale(side) {
    return (side / Math.max(this.header.width, this.header.height)) * this.view.zoom;
  }

  label() {
    const { width, level, zoom, inverted } = this.view;
    const parts = [`Contrast ${Math.round((100 * this.full) / width)}%`, `Brightness ${Math.round(100 * (1 - level / this.full))}%`];
    if (zoom > 1) parts.push(`Zoom ${zoom.toFixed(1)}`);
    if (inverted) parts.push("inverted");
    this.box.querySelector(".window").textContent = parts.join(" · ");
    this.box.querySelector("[data-does=invert]").setAttribute("aria-pressed", String(inverted));
  }

  // Zoom by a factor, keeping the image point at (x, y), in CSS pixels of the box, where it is.
  zoomAt(factor, x, y) {
    const side = this.box.clientWidth;
    const before = this.scale(side);
    this.view.zoom = clamp(this.view.zoom * factor, 1, 16);
    const after = this.scale(side);
    this.view.x += ((x - side / 2) * (1 / before - 1 / after)) / this.header.width;
    this.view.y += ((y - side / 2) * (1 / before - 1 / after)) / this.header.height;
    this.keepInside();
    this.detail();
    this.draw();
    this.rest();
  }

  detail() {
    if (this.view.zoom < 2 || !this.header.detail || this.asked) return;
    this.asked = true;
    this.askForDetail(this.header.image);
  }

  // The middle of the box stays on the image, and an image that fits stays in the middle.
  keepInside() {
    const side = this.box.clientWidth;
    const scale = this.scale(side);
    for (const [axis, length] of [["x", this.header.width], ["y", this.header.height]]) {
      const half = Math.min(0.5, side / 2 / (length * scale));
      this.view[axis] = clamp(this.view[axis], half, 1 - half);
    }
  }

  act(what) {
    const middle = this.box.clientWidth / 2;
    if (what === "in") this.zoomAt(1.25, middle, middle);
    if (what === "out") this.zoomAt(0.8, middle, middle);
    if (what === "reset") this.reset();
    if (what === "invert") {
      this.view.inverted = !this.view.inverted;
      this.window();
      this.rest();
    }
    if (what === "keep") {
      this.keep = !this.keep;
      this.box.querySelector("[data-does=keep]").setAttribute("aria-pressed", String(this.keep));
    }
  }

  // The wheel belongs to the page, unless the picture has the focus or ctrl is held.
  wheel(event) {
    if (!event.ctrlKey && this.canvas.getRootNode().activeElement !== this.canvas) return;
    event.preventDefault();
    const box = this.box.getBoundingClientRect();
    const lines = event.deltaMode === 1 ? 33 : 1;
    this.zoomAt(Math.exp(-clamp(event.deltaY * lines, -300, 300) / 500), event.clientX - box.left, event.clientY - box.top);
  }

  grab(event) {
    this.canvas.focus({ preventScroll: true });
    event.preventDefault();
    this.canvas.setPointerCapture(event.pointerId);
    this.drag = { x: event.clientX, y: event.clientY, pan: event.shiftKey || event.button !== 0 };
    this.canvas.classList.toggle("moving", this.drag.pan);
  }

  move(event) {
    if (!this.drag) return;
    const dx = event.clientX - this.drag.x;
    const dy = event.clientY - this.drag.y;
    this.drag.x = event.clientX;
    this.drag.y = event.clientY;
    if (this.drag.pan) {
      const scale = this.scale(this.box.clientWidth);
      this.view.x -= dx / (this.header.width * scale);
      this.view.y -= dy / (this.header.height * scale);
      this.keepInside();
      this.draw();
      return;
    }
    // Right is more contrast (a narrower window), up is brighter (a lower level).
    this.view.width = clamp(this.view.width * Math.exp(-dx / 200), this.full / 100, this.full * 4);
    this.view.level = clamp(this.view.level + (dy / this.box.clientWidth) * Math.min(this.view.width, this.full), 0, this.full);
    this.window();
  }

  release(event) {
    if (this.drag) this.rest();
    this.drag = null;
    this.canvas.classList.remove("moving");
    if (this.canvas.hasPointerCapture(event.pointerId)) this.canvas.releasePointerCapture(event.pointerId);
  }

  // Keys count while the pointer or the focus is on the image, and never while something is being typed.
  key(event) {
    if (!this.pixels || event.ctrlKey || event.metaKey || event.altKey) return;
    const path = event.composedPath();
    if (!path.includes(this.box) && !(this.hover && !path[0].closest?.("input, textarea, select, [contenteditable=true]"))) return;
    const what = { "+": "in", "=": "in", "-": "out", _: "out", i: "invert", I: "invert", " ": "reset" }[event.key];
    if (!what || (event.key === " " && path[0].closest?.("button, summary, [role=slider]"))) return; // there space presses
    event.preventDefault();
    this.act(what);
  }
}

// Sets a parameter of the page's address in place, the others as they stand, without a new entry of the history. The
// server writes the same afterwards, in the same order, so that it changes nothing.
function write(name, value) {
  const pairs = location.search.slice(1).split("&").filter(Boolean);
  const at = pairs.findIndex((pair) => pair.split("=")[0] === name);
  const pair = `${name}=${encodeURIComponent(value).replaceAll("%20", "+")}`;
  if (value && at < 0) pairs.push(pair);
  else if (value) pairs[at] = pair;
  else if (at >= 0) pairs.splice(at, 1);
  const search = pairs.length ? `?${pairs.join("&")}` : "";
  if (search !== location.search) history.replaceState(history.state, "", location.pathname + search + location.hash);
}
