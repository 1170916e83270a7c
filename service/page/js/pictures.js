// The pictures of this visit and their readings.
//
// A reading is written into the picture that it was asked for, an explanation into its face, and the
// page shows what the chosen one has: an answer can be late, but never stand beside another face.

import { Trouble, ask, only, pictureForm } from "./api.js";
import { Explanation } from "./explanations.js";
import { announce, changed, state } from "./store.js";
import { t } from "./strings.js";

const AT_ONCE = 2; // requests on their way, so that a folder does not fill the server
const SENT_AS_IT_IS = ["image/jpeg", "image/png", "image/webp"];
let count = 0;

export class Picture {
  constructor(blob, name, { aligned = false } = {}) {
    this.id = ++count;
    this.blob = blob;
    this.name = name;
    this.aligned = aligned; // a crop whose face lies where the model wants it
    this.url = URL.createObjectURL(blob);
    this.status = "waiting"; // reading, read, failed
    this.faces = [];
    this.face = 0; // the chosen one
    this.trouble = null;
    this.controller = null;
  }

  get chosenFace() {
    return this.faces[this.face] ?? null;
  }

  /** Forget what was read, and stop what is being asked. */
  reset() {
    this.controller?.abort();
    for (const face of this.faces) face.forget();
    Object.assign(this, { status: "waiting", faces: [], face: 0, trouble: null });
  }
}

/** A face of a picture: its reading, and what was asked about it. */
export class Face {
  constructor(picture, index, reading) {
    Object.assign(this, { picture, index, reading });
    this.explanations = {
      expression: new Explanation(this, "expression"),
      nuisance: new Explanation(this, "nuisance"),
    };
    this.family = "expression"; // the tab that is open
  }

  forget() {
    for (const explanation of Object.values(this.explanations)) explanation.stop();
  }
}

/** Add pictures, choose the first of them, and read them all. */
export function add(pictures) {
  if (!pictures.length) return;
  state.pictures.push(...pictures);
  choose(pictures[0]);
  readNext();
}

export const addFiles = (files) =>
  add(
    [...files]
      .filter((file) => file.type.startsWith("image/") || !file.type)
      .map((file) => new Picture(file, file.name)),
  );

export function choose(picture) {
  state.chosen = picture;
  state.camera?.stop();
  changed();
}

export function chooseFace(picture, index) {
  picture.face = index;
  changed();
}

export function remove(picture) {
  picture.reset();
  URL.revokeObjectURL(picture.url);
  const place = state.pictures.indexOf(picture);
  state.pictures.splice(place, 1);
  if (state.chosen === picture)
    state.chosen = state.pictures[Math.min(place, state.pictures.length - 1)] ?? null;
  changed();
  readNext();
}

export function removeAll() {
  for (const picture of [...state.pictures]) remove(picture);
}

/** Read again, as an aligned crop or with a search for faces. */
export function readAs(picture, aligned) {
  picture.reset();
  picture.aligned = aligned;
  changed();
  readNext();
}

/** Read again what the server could not be asked, or would not say. */
export function retry() {
  for (const picture of state.pictures)
    if (picture.status === "failed" && picture.trouble.kind !== "refused") picture.reset();
  changed();
  readNext();
}

/** Begin to read what waits, the chosen picture first. */
function readNext() {
  const reading = state.pictures.filter((picture) => picture.status === "reading").length;
  const waiting = state.pictures.filter((picture) => picture.status === "waiting");
  waiting.sort((a, b) => (b === state.chosen) - (a === state.chosen));
  for (const picture of waiting.slice(0, Math.max(0, AT_ONCE - reading))) read(picture);
}

async function read(picture) {
  const controller = (picture.controller = new AbortController());
  picture.status = "reading";
  changed();
  try {
    const faces = await facesOf(picture, controller.signal);
    if (controller.signal.aborted) return;
    picture.faces = faces.map((reading, index) => new Face(picture, index, reading));
    picture.status = "read";
    announce(t("read.done", { name: picture.name, faces: faces.length }));
  } catch (trouble) {
    if (controller.signal.aborted) return;
    picture.status = "failed";
    picture.trouble = trouble instanceof Trouble ? trouble : new Trouble("failed", `${trouble}`);
    announce(t("read.failed", { name: picture.name }));
  } finally {
    readNext();
  }
}

async function facesOf(picture, signal) {
  picture.blob = await understood(picture.blob);
  return readFaces(picture.blob, picture.aligned, signal);
}

/** The readings of all faces of a picture, the largest first. */
export async function readFaces(blob, aligned, signal) {
  const options = { faces: aligned ? "none" : "all" };
  return only(await ask("v1/predict", pictureForm(blob, options), signal)).faces;
}

/** What the server takes is sent as it is; other kinds that the browser can show become PNG. */
async function understood(blob) {
  if (SENT_AS_IT_IS.includes(blob.type)) return blob;
  const bitmap = await createImageBitmap(blob).catch(() => null);
  if (!bitmap) throw new Trouble("not_a_picture");
  const canvas = new OffscreenCanvas(bitmap.width, bitmap.height);
  canvas.getContext("2d").drawImage(bitmap, 0, 0);
  return canvas.convertToBlob({ type: "image/png" });
}
