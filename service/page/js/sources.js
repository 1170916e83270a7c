// Where pictures come from: files, folders, the clipboard, the built-in examples, an address.

import { Trouble } from "./api.js";
import { Picture, add, addFiles } from "./pictures.js";
import { changed, state } from "./store.js";

export const EXAMPLES = ["smile", "surprise", "anger", "sadness", "three", "upside_down"];
export const exampleUrl = (name) => new URL(`../examples/${name}.jpg`, import.meta.url).href;

export async function addExample(name, title) {
  const response = await fetch(exampleUrl(name));
  add([new Picture(await response.blob(), title)]);
}

/** Whatever was dropped: files, and folders with all that is in them. */
export async function addDropped(transfer) {
  const entries = [...transfer.items].map((item) => item.webkitGetAsEntry?.()).filter(Boolean);
  if (!entries.length) return addFiles(transfer.files);
  const files = await Promise.all(entries.map(filesOf));
  return addFiles(files.flat());
}

async function filesOf(entry) {
  if (entry.isFile) return [await new Promise((found, lost) => entry.file(found, lost))];
  const reader = entry.createReader();
  const files = [];
  for (;;) {
    const some = await new Promise((found, lost) => reader.readEntries(found, lost));
    if (!some.length) return files;
    for (const inner of some) files.push(...(await filesOf(inner)));
  }
}

export function addPasted(event) {
  if (event.clipboardData?.files.length) addFiles(event.clipboardData.files);
}

/** A picture by its address, from the hosts that the operator has named: the browser fetches it. */
export async function addAddress(address) {
  state.addressTrouble = null;
  try {
    const { origin, pathname } = new URL(address);
    if (!state.pictureOrigins.includes(origin)) throw new Trouble("foreign", origin);
    const response = await fetch(address, { credentials: "omit", referrerPolicy: "no-referrer" });
    if (!response.ok) throw new Trouble("refused", `${response.status}`);
    add([new Picture(await response.blob(), pathname.split("/").at(-1) || origin)]);
  } catch (error) {
    state.addressTrouble = error instanceof Trouble ? error : new Trouble("no_address");
  }
  changed();
}
