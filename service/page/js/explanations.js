// One question about one face, and its answer.

import { Trouble, ask, only, pictureForm } from "./api.js";
import { announce, changed } from "./store.js";
import { t } from "./strings.js";

const ANSWERS = 3; // the least change and up to two others
const FRAME_MS = 180;

export class Explanation {
  constructor(face, family) {
    Object.assign(this, { face, family });
    this.status = "none"; // asking, answered, failed
    this.label = ""; // a label's name; "": the strongest decision
    this.target = -0.5; // of valence or arousal
    this.gradients = false;
    this.result = null;
    this.trouble = null;
    this.controller = null;
    this.split = 50; // percent of the picture that shows the changed face
    this.map = 0; // percent
    this.frame = 0;
    this.timer = null;
  }

  get question() {
    if (!this.label) return {};
    return ["valence", "arousal"].includes(this.label)
      ? { [this.label]: this.target }
      : { au: this.label };
  }

  stop() {
    this.controller?.abort();
    this.pause();
  }

  /** Ask, in place of whatever was asked before. */
  async ask() {
    this.stop();
    const controller = (this.controller = new AbortController());
    Object.assign(this, { status: "asking", result: null, trouble: null });
    changed();
    try {
      const result = await this.answer(controller.signal);
      if (controller.signal.aborted) return;
      Object.assign(this, { status: "answered", result, frame: result.frames.length - 1 });
      announce(t("explain.done"));
    } catch (trouble) {
      if (controller.signal.aborted) return;
      const said = trouble instanceof Trouble ? trouble : new Trouble("failed", `${trouble}`);
      Object.assign(this, { status: "failed", trouble: said });
      announce(t("explain.failed"));
    }
  }

  async answer(signal) {
    const { picture, index } = this.face;
    const options = {
      question: this.question,
      family: this.family,
      answers: ANSWERS,
      integrated_gradients: this.gradients,
      ...(picture.aligned ? { faces: "none" } : { face: index }),
    };
    return only(await ask("v1/explain", pictureForm(picture.blob, options), signal));
  }

  cancel() {
    this.stop();
    this.status = "none";
    changed();
  }

  /** Show the way from the face to the changed one. */
  play() {
    this.pause();
    this.frame = 0;
    this.timer = setInterval(() => {
      this.frame += 1;
      if (this.frame >= this.result.frames.length - 1) this.pause();
      changed();
    }, FRAME_MS);
    changed();
  }

  pause() {
    clearInterval(this.timer);
    this.timer = null;
    changed();
  }
}
