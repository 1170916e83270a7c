// What is wished of a drawn face, the people to draw, and the faces that were drawn.

import { Trouble, ask, base64, rowTrouble } from "./api.js";
import { announce, changed, state } from "./store.js";
import { t } from "./strings.js";

const PEOPLE = 6; // shown at a time to pick from

export const drawing = {
  wishes: {}, // label -> value; what is absent is "any"
  firstSeed: 1,
  people: { status: "none", pictures: [], trouble: null, controller: null }, // pictures: {seed, image}
  seeds: [], // the people that were picked
  reference: null, // a Face, to draw this person
  live: false, // draw again with each change
  status: "none", // drawing, drawn, failed
  results: [],
  trouble: null,
  controller: null,
};

export function wish(name, value) {
  if (value === null) delete drawing.wishes[name];
  else drawing.wishes[name] = value;
  changed();
  if (drawing.live) draw();
}

/** `others`: what the Action Units shall be that the preset does not name; absent: any. */
export function usePreset({ aus, others, valence, arousal }) {
  const known = state.card.vocabulary
    .map((code) => [code, aus[code] ?? others])
    .filter(([, value]) => value !== undefined);
  const dimensions = Object.entries({ valence, arousal }).filter(([, v]) => v !== undefined);
  drawing.wishes = Object.fromEntries([
    ...(state.card.labels === "va" ? [] : known),
    ...(state.card.labels === "au" ? [] : dimensions),
  ]);
  changed();
  if (drawing.live) draw();
}

export function toggleSeed(seed) {
  const { seeds } = drawing;
  drawing.reference = null;
  drawing.seeds = seeds.includes(seed) ? seeds.filter((one) => one !== seed) : [...seeds, seed];
  changed();
}

export function useReference(face) {
  drawing.reference = face;
  changed();
}

/** Faces at rest, one a seed, to pick people by. */
export async function showPeople(firstSeed) {
  const { people } = drawing;
  people.controller?.abort();
  const controller = (people.controller = new AbortController());
  Object.assign(people, { status: "drawing", trouble: null });
  drawing.firstSeed = firstSeed;
  changed();
  try {
    const rest = state.card.labels === "va" ? {} : { aus: atRest() };
    const items = Array.from({ length: PEOPLE }, (_, n) => ({ ...rest, seed: firstSeed + n }));
    const { results } = await ask("v1/generate", { items, format: "webp" }, controller.signal);
    people.pictures = results.filter((result) => result.status === "ok");
    drawing.seeds = people.pictures.slice(0, 1).map((result) => result.seed);
    people.status = "drawn";
  } catch (trouble) {
    if (controller.signal.aborted) return;
    Object.assign(people, { status: "failed", trouble: asTrouble(trouble) });
  }
  changed();
}

const atRest = () => Object.fromEntries(state.card.vocabulary.map((code) => [code, 0]));

/** Draw what is wished, in place of what was being drawn. */
export async function draw() {
  drawing.controller?.abort();
  const controller = (drawing.controller = new AbortController());
  Object.assign(drawing, { status: "drawing", trouble: null });
  changed();
  try {
    const { results } = await ask("v1/generate", await body(), controller.signal);
    if (controller.signal.aborted) return;
    const failed = results.find((result) => result.status !== "ok");
    if (failed) throw rowTrouble(failed.error);
    Object.assign(drawing, { status: "drawn", results });
    announce(t("draw.done", { count: results.length }));
  } catch (trouble) {
    if (controller.signal.aborted) return;
    Object.assign(drawing, { status: "failed", results: [], trouble: asTrouble(trouble) });
    announce(t("draw.failed"));
  }
}

export function cancel() {
  drawing.controller?.abort();
  drawing.status = drawing.results.length ? "drawn" : "none";
  changed();
}

async function body() {
  const { valence, arousal, ...aus } = drawing.wishes;
  const wished = { aus, ...(valence === undefined ? {} : { valence }) };
  if (arousal !== undefined) wished.arousal = arousal;
  const { reference } = drawing;
  if (!reference) {
    const seeds = drawing.seeds.length ? drawing.seeds : [drawing.firstSeed];
    return { items: seeds.map((seed) => ({ ...wished, seed })), format: "png" };
  }
  const { picture, index } = reference;
  const content = await base64(picture.blob);
  return {
    items: [{ ...wished, seed: drawing.firstSeed, reference: { content } }],
    format: "png",
    ...(picture.aligned ? { faces: "none" } : { face: index }),
  };
}

const asTrouble = (error) =>
  error instanceof Trouble ? error : new Trouble("failed", `${error}`);
