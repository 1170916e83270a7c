// A reading, and a change of one, in plain words.

import { state } from "./store.js";
import { known, listed, number, percent, several, signed, t } from "./strings.js";

const MOST_MOVEMENTS = 3;
const STRONG = 0.66; // intensity from which a movement is called strong; below 1 - STRONG as slight
const UNSURE = 0.15; // a probability this near to its threshold is a doubt
const NEUTRAL = 0.15; // valence and arousal that are called neither
const MUCH = 0.5;
// Movements that people have one word for, when all of them are there. The longer come first.
const TOGETHER = [
  ["AU6", "AU12"],
  ["AU1", "AU2"],
  ["AU25", "AU26"],
  ["AU25", "AU27"],
];

/** The name of an Action Unit in the page's language. */
export const unitName = (code) => known(`unit.${code}.name`) ?? state.units[code]?.name ?? code;

/** "lip corner puller (AU12)", or "valence". */
export const labelName = (label) =>
  state.units[label] ? `${unitName(label)} (${label})` : (known(`label.${label}`) ?? label);

const capital = (text) => `${text.charAt(0).toUpperCase()}${text.slice(1)}`;

export const threshold = (code) => state.card?.calibration[code]?.threshold ?? 0.5;

/** Whether a probability lies so near to the decision that it could have gone the other way. */
export const isUnsure = (code, unit) => Math.abs(unit.probability - threshold(code)) < UNSURE;

/** "broad smile, eyes relaxed; pleasant, calm; unsure about the brows" */
export function sentence(reading) {
  const parts = [moving(reading), feeling(reading), doubts(reading)].filter(Boolean);
  return `${capital(parts.join(t("sentence.between")))}.`;
}

function moving(reading) {
  if (!reading.aus) return "";
  const shown = Object.entries(reading.aus)
    .filter(([, unit]) => unit.present)
    .map(([code, unit]) => ({ key: code, intensity: unit.intensity ?? unit.probability }));
  if (!shown.length) return t("sentence.nothing");
  const movements = together(shown).sort((a, b) => b.intensity - a.intensity);
  const strongest = movements.slice(0, MOST_MOVEMENTS);
  const words = strongest.map(({ key, intensity }) => degree(key, intensity));
  const more = movements.length - strongest.length;
  if (more) words.push(t("sentence.more", { count: more }));
  else if (reading.aus.AU12?.present && reading.aus.AU6 && !reading.aus.AU6.present)
    words.push(t("sentence.eyes_relaxed"));
  return words.join(", ");
}

/** Groups of movements in the place of their parts. */
function together(shown) {
  let rest = shown;
  const groups = [];
  for (const codes of TOGETHER) {
    const parts = rest.filter(({ key }) => codes.includes(key));
    if (parts.length < codes.length) continue;
    rest = rest.filter(({ key }) => !codes.includes(key));
    const intensity = Math.max(...parts.map((part) => part.intensity));
    groups.push({ key: codes.join("+"), intensity });
  }
  return [...groups, ...rest];
}

function degree(key, intensity) {
  const [slight, plain, strong] = several(`unit.${key}.does`) ?? [key, key, key];
  if (intensity >= STRONG) return strong;
  return intensity <= 1 - STRONG ? slight : plain;
}

function feeling({ valence, arousal }) {
  if (valence === undefined || valence === null) return "";
  return `${step("valence", valence)}, ${step("arousal", arousal)}`;
}

function step(dimension, value) {
  const size = Math.abs(value);
  const name = size < NEUTRAL ? "none" : `${size < MUCH ? "some" : "much"}_${value < 0 ? "low" : "high"}`;
  return t(`${dimension}.${name}`);
}

function doubts(reading) {
  const regions = Object.entries(reading.aus ?? {})
    .filter(([code, unit]) => isUnsure(code, unit))
    .map(([code]) => t(`region.${state.units[code]?.region ?? "mouth"}`));
  const named = [...new Set(regions)];
  return named.length ? t("sentence.unsure", { regions: listed(named) }) : "";
}

/** What a change of a face does to its reading: "lip corner puller would no longer be read ..." */
export function changeSentence(question, change, causes, valid, family) {
  const label = question.au ?? Object.keys(question)[0];
  const values = { name: labelName(label), ...movedBetween(label, change) };
  const effect = question.au
    ? t(`change.${question.present ? "appears" : "goes"}`, values)
    : t(`change.${change.to >= change.from ? "rises" : "falls"}`, values);
  const parts = causes.slice(0, MOST_MOVEMENTS).map((cause) => causeWords(cause, family));
  const why = parts.length ? t("change.if", { causes: listed(parts) }) : t("change.unnamed");
  return `${capital(effect)} ${why}${valid ? "." : t("change.not_enough")}`;
}

function movedBetween(label, change) {
  const show = state.units[label] ? percent : (value) => signed(value);
  return { from: show(change.from), to: show(change.to) };
}

function causeWords(cause, family) {
  const by = cause.to - cause.from;
  const values = { name: family === "nuisance" ? nuisanceName(cause.label) : labelName(cause.label) };
  if (family === "nuisance") return t("change.nuisance", { ...values, by: percent(Math.abs(by)) });
  return t(by > 0 ? "change.raised" : "change.lowered", { ...values, by: number(Math.abs(by)) });
}

/** "light: dim to bright", in the page's language where it is known. */
export const nuisanceName = (label) => known(`nuisance.${label}`) ?? label;
