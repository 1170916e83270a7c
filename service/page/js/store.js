// What the page shows. Whoever changes it calls `changed()`; the page is then drawn once, soon.

export const state = {
  view: "read", // or "draw", "check"
  model: null, // the default model's entry of /v1/models
  card: null,
  units: {}, // the catalogue: code -> {name, muscles, region}
  presets: [],
  pictureOrigins: [], // from where the page may load a picture by its address
  start: { status: "loading", trouble: null },
  pictures: [],
  chosen: null, // a Picture
  camera: null, // a Camera while it runs
  note: "", // said by screen readers
  wantsKey: false,
  keyText: "",
};

let draw = () => {};
let waiting = false;

export function onChange(callback) {
  draw = callback;
}

/** Draw the page again, once, after what runs now. */
export function changed() {
  if (waiting) return;
  waiting = true;
  queueMicrotask(() => {
    waiting = false;
    draw();
  });
}

/** Say something to those who do not see the page. */
export function announce(text) {
  state.note = text;
  changed();
}
