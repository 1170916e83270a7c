// Words and numbers in the reader's language. A key without a translation is an error of ours, which a test finds.

const LANGUAGES = ["en", "de"];
let words = {};
export let language = "en";

/** The language of `?lang=`, or the first of the browser's that we have. */
function preferred() {
  const asked = new URLSearchParams(location.search).get("lang");
  const offered = [asked, ...navigator.languages].map((tag) => tag?.slice(0, 2));
  return offered.find((tag) => LANGUAGES.includes(tag)) ?? LANGUAGES[0];
}

/** Load a language; the address remembers one that was chosen, nothing else does. */
export async function speak(chosen) {
  language = chosen ?? preferred();
  const response = await fetch(new URL(`../strings/${language}.json`, import.meta.url));
  words = await response.json();
  document.documentElement.lang = language;
  document.title = words["title"];
  if (!chosen) return;
  const address = new URL(location.href);
  address.searchParams.set("lang", chosen);
  history.replaceState(null, "", address);
}

/** The words for a key, with `{name}` filled in. */
export function t(key, values = {}) {
  const text = words[key] ?? key;
  return text.replaceAll(/\{(\w+)\}/g, (_, name) => String(values[name]));
}

/** The words for a key, or null when there are none: for names that a newer server may add to. */
export const known = (key, values) => (key in words ? t(key, values) : null);

const NUMBER = /-?\d+(?:\.\d+)?/g;

/**
 * A sentence of the server in the page's language, or null where it has none. The key is the English
 * sentence with # for each number; the numbers are filled in, in order, for {0}, {1}, ...
 */
export function translated(sentence) {
  const figures = sentence.match(NUMBER) ?? [];
  const local = (figure) => new Intl.NumberFormat(language, { maximumFractionDigits: 6 }).format(figure);
  return known(`said.${sentence.replaceAll(NUMBER, "#")}`, figures.map(local));
}

/** A list of words of a key, such as the degrees of a movement. */
export const several = (key) => words[key];

export const number = (value, digits = 2) =>
  new Intl.NumberFormat(language, {
    minimumFractionDigits: digits,
    maximumFractionDigits: digits,
  }).format(Object.is(value, -0) ? 0 : value);

export const signed = (value, digits = 2) =>
  new Intl.NumberFormat(language, {
    minimumFractionDigits: digits,
    maximumFractionDigits: digits,
    signDisplay: "exceptZero",
  }).format(value);

export const percent = (share) =>
  new Intl.NumberFormat(language, { style: "percent", maximumFractionDigits: 0 }).format(share);

/** "a, b and c". */
export const listed = (parts) =>
  new Intl.ListFormat(language, { type: "conjunction" }).format(parts);

export const languages = LANGUAGES;
