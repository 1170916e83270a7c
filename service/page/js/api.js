// Requests to the gateway. What goes wrong is a Trouble: what kind it is, and the server's own words.

import { changed, state } from "./store.js";

let key = ""; // kept nowhere else

export class Trouble extends Error {
  /** `kind`: gone, busy, key, slow, refused or failed; `detail`: the server's words, in English. */
  constructor(kind, detail = "", waitSeconds = null) {
    super(detail || kind);
    this.kind = kind;
    this.detail = detail;
    this.waitSeconds = waitSeconds;
  }
}

export function useKey(text) {
  key = text.trim();
  state.wantsKey = false;
  changed();
}

/** The JSON answer. `body` is an object (JSON), a FormData, or absent (GET). */
export async function ask(path, body, signal) {
  const response = await send(path, body, signal);
  if (response.ok) return response.json();
  throw await troubleOf(response);
}

async function send(path, body, signal) {
  const headers = key ? { Authorization: `Bearer ${key}` } : {};
  const options = { method: body === undefined ? "GET" : "POST", headers, signal };
  if (body instanceof FormData) options.body = body;
  else if (body !== undefined) {
    headers["Content-Type"] = "application/json";
    options.body = JSON.stringify(body);
  }
  try {
    return await fetch(path, options);
  } catch (error) {
    if (signal?.aborted) throw error;
    throw new Trouble("gone");
  }
}

const KINDS = { 401: "key", 403: "key", 429: "busy", 503: "busy", 504: "slow" };

async function troubleOf(response) {
  const problem = await response.json().catch(() => ({}));
  const kind = KINDS[response.status] ?? (response.status < 500 ? "refused" : "failed");
  if (kind === "key") state.wantsKey = true;
  const detail = problem.detail ? `${problem.title}: ${problem.detail}` : problem.title;
  return new Trouble(kind, detail, Number(response.headers.get("Retry-After")) || null);
}

/** The first result of an answer, or its own error as a Trouble. */
export function only(answer) {
  const [result] = answer.results;
  if (result.status === "ok") return result;
  throw rowTrouble(result.error);
}

export const rowTrouble = (error) =>
  new Trouble(error.code === "no_face" ? "no_face" : "refused", `${error.title}: ${error.detail}`);

/** A form with pictures and options, which carries the bytes as they are. */
export function pictureForm(blob, options) {
  const form = new FormData();
  form.append("images", blob, "picture");
  form.append("options", new Blob([JSON.stringify(options)], { type: "application/json" }));
  return form;
}

export async function base64(blob) {
  const bytes = new Uint8Array(await blob.arrayBuffer());
  let text = "";
  for (let start = 0; start < bytes.length; start += 8192)
    text += String.fromCharCode(...bytes.subarray(start, start + 8192));
  return btoa(text);
}

export const source = (image) => `data:${image.media_type};base64,${image.content}`;
