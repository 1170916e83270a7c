// The camera: one frame after the other is read, the next when the last one's answer is there.

import { Trouble } from "./api.js";
import { Face, Picture, add, readFaces } from "./pictures.js";
import { changed, state } from "./store.js";

const QUALITY = 0.92;

export class Camera {
  constructor(stream, video) {
    Object.assign(this, { stream, video });
    this.controller = new AbortController();
    this.faces = [];
    this.face = 0;
    this.trouble = null;
    this.frames = 0; // read so far
  }

  get chosenFace() {
    return this.faces[this.face] ?? this.faces[0] ?? null;
  }

  /** Read frames until stopped. */
  async run() {
    while (!this.controller.signal.aborted) {
      try {
        const readings = await readFaces(await this.frame(), false, this.controller.signal);
        this.faces = readings.map((reading, index) => new Face(this, index, reading));
        this.trouble = null;
      } catch (trouble) {
        if (this.controller.signal.aborted) return;
        this.faces = [];
        this.trouble = trouble instanceof Trouble ? trouble : new Trouble("failed", `${trouble}`);
        if (this.trouble.kind !== "no_face") return this.stop();
      }
      this.frames += 1;
      changed();
    }
  }

  /** What the camera sees now, as JPEG. */
  async frame() {
    const canvas = new OffscreenCanvas(this.video.videoWidth, this.video.videoHeight);
    canvas.getContext("2d").drawImage(this.video, 0, 0);
    return canvas.convertToBlob({ type: "image/jpeg", quality: QUALITY });
  }

  /** Keep this frame as a picture, and stop. */
  async keep(name) {
    const blob = await this.frame();
    this.stop();
    add([new Picture(blob, name)]);
  }

  stop() {
    this.controller.abort();
    for (const track of this.stream.getTracks()) track.stop();
    if (state.camera === this) state.camera = null;
    if (this.trouble) state.cameraTrouble = this.trouble;
    changed();
  }
}

export async function startCamera() {
  state.cameraTrouble = null;
  try {
    const constraints = { video: { facingMode: "user" } };
    const stream = await navigator.mediaDevices.getUserMedia(constraints);
    const video = document.createElement("video");
    Object.assign(video, { srcObject: stream, muted: true, playsInline: true });
    await video.play();
    state.camera = new Camera(stream, video);
    state.camera.run();
  } catch (error) {
    state.cameraTrouble = new Trouble("no_camera", `${error.message ?? error}`);
  }
  changed();
}
