// "Read": where pictures come in, the strip of them, the chosen one with its faces, and the reading.

import { html, nothing, svg } from "../vendor/lit-html/lit-html.js";
import { live } from "../vendor/lit-html/directives/live.js";
import { repeat } from "../vendor/lit-html/directives/repeat.js";
import { startCamera } from "./camera.js";
import { explanationPanel } from "./explanation_view.js";
import { busy, troubleBox } from "./parts.js";
import * as pictures from "./pictures.js";
import { readingView } from "./reading.js";
import { state } from "./store.js";
import * as sources from "./sources.js";
import { t } from "./strings.js";

export function readView() {
  const subject = state.camera ?? state.chosen;
  return html`<h2>${t("read.title")}</h2>
    <p>${t("read.lead")}</p>
    ${chooser()} ${state.cameraTrouble ? troubleBox(state.cameraTrouble) : nothing} ${strip()}
    <div class=${subject ? "columns" : "empty"}>
      <section aria-label=${t("picture.title")} class="picture">${subject ? stage(subject) : nothing}</section>
      <section aria-label=${t("reading.title")} class="reading">
        <h3>${t("reading.title")}</h3>
        ${subject ? readingOf(subject) : html`<p class="quiet">${t("reading.none")}</p>`}
      </section>
    </div>
    ${explanationPanel(state.camera ? null : (state.chosen?.chosenFace ?? null))}`;
}

// Chosen files are taken once, so that the same file can be chosen again.
function taken(event) {
  pictures.addFiles(event.target.files);
  event.target.value = "";
}

function chooser() {
  return html`<div
    class="drop"
    @dragover=${(event) => over(event, true)}
    @dragleave=${(event) => over(event, false)}
    @drop=${dropped}
  >
    <div class="choose">
      <label class="button">
        ${t("choose.files")}
        <input
          id="files"
          type="file"
          multiple
          accept="image/*"
          class="inside"
          @change=${taken}
        />
      </label>
      <label class="button">
        ${t("choose.folder")}
        <input id="folder" type="file" webkitdirectory class="inside" @change=${taken} />
      </label>
      <button type="button" id="camera" @click=${startCamera}>${t("choose.camera")}</button>
      <p class="quiet">${t("choose.drop")}</p>
      ${state.pictureOrigins.length ? addressField() : nothing}
    </div>
    ${examples()}
  </div>`;
}

function over(event, on) {
  event.preventDefault();
  event.currentTarget.classList.toggle("over", on);
}

function dropped(event) {
  over(event, false);
  sources.addDropped(event.dataTransfer);
}

const addressField = () => html`<form
    class="address"
    @submit=${(event) => {
      event.preventDefault();
      sources.addAddress(event.currentTarget.elements.address.value);
    }}
  >
    <label>
      ${t("choose.address")}
      <input name="address" type="url" required placeholder="${state.pictureOrigins[0]}/…" />
    </label>
    <button>${t("choose.address_go")}</button>
  </form>
  ${state.addressTrouble ? troubleBox(state.addressTrouble) : nothing}`;

const examples = () => html`<div class="examples">
  <span id="examples-label">${t("examples.title")}</span>
  <ul class="thumbs" aria-labelledby="examples-label">
    ${sources.EXAMPLES.map(
      (name) => html`<li>
        <button
          type="button"
          class="thumb"
          data-example=${name}
          @click=${() => sources.addExample(name, t(`examples.${name}`))}
        >
          <img src=${sources.exampleUrl(name)} alt=${t(`examples.${name}`)} />
        </button>
      </li>`,
    )}
  </ul>
</div>`;

function strip() {
  if (!state.pictures.length) return nothing;
  return html`<div class="strip">
    <div class="strip-head">
      <h3 id="strip-label">${t("strip.title", { count: state.pictures.length })}</h3>
      <button type="button" @click=${pictures.removeAll}>${t("strip.clear")}</button>
    </div>
    <ul class="thumbs" aria-labelledby="strip-label">
      ${repeat(state.pictures, (picture) => picture.id, thumbnail)}
    </ul>
  </div>`;
}

const thumbnail = (picture) => html`<li>
  <button
    type="button"
    class="thumb"
    data-status=${picture.status}
    aria-pressed=${String(picture === state.chosen && !state.camera)}
    @click=${() => pictures.choose(picture)}
  >
    <img src=${picture.url} alt="" loading="lazy" decoding="async" />
    <span class="thumb-name">${picture.name}</span>
    <span class="thumb-state">${thumbnailState(picture)}</span>
  </button>
</li>`;

const thumbnailState = (picture) =>
  picture.status === "read"
    ? t("strip.read", { faces: picture.faces.length })
    : t(`strip.${picture.status}`);

/** The picture, or what the camera sees, with its faces to choose from. */
function stage(subject) {
  const camera = subject === state.camera;
  return html`<h3>${camera ? t("camera.title") : subject.name}</h3>
    <div class="stage">
      ${camera
        ? subject.video
        : html`<img class="shown" src=${subject.url} alt=${t("picture.alt")} @load=${measured} />`}
      ${boxes(subject)}
    </div>
    ${faceButtons(subject)} ${camera ? cameraButtons(subject) : pictureButtons(subject)}`;
}

// The size of a picture is known once it is loaded; the boxes are in its px.
function measured(event) {
  const { naturalWidth, naturalHeight, parentElement } = event.currentTarget;
  const overlay = parentElement.querySelector(".boxes");
  overlay?.setAttribute("viewBox", `0 0 ${naturalWidth} ${naturalHeight}`);
}

function sizeOf(subject) {
  if (subject.video) return [subject.video.videoWidth, subject.video.videoHeight];
  const shown = document.querySelector(".shown");
  return shown?.src === subject.url && shown.naturalWidth
    ? [shown.naturalWidth, shown.naturalHeight]
    : [1, 1];
}

const boxes = (subject) => html`<svg
  class="boxes"
  viewBox="0 0 ${sizeOf(subject).join(" ")}"
  aria-hidden="true"
>
  ${subject.faces.map((face) => box(subject, face))}
</svg>`;

function box(subject, face) {
  if (!face.reading.box) return nothing;
  const [x, y, width, height] = face.reading.box;
  const chosen = face === subject.chosenFace;
  const frame = svg`<rect class=${chosen ? "box chosen" : "box"} x=${x} y=${y} width=${width}
    height=${height} @click=${() => pictures.chooseFace(subject, face.index)}></rect>`;
  if (subject.faces.length < 2) return frame;
  return svg`${frame}<text class="box-number" x=${x + 0.06 * width} y=${y + 0.26 * height}
    font-size=${0.25 * height}>${face.index + 1}</text>`;
}

const faceButtons = (subject) =>
  subject.faces.length < 2
    ? nothing
    : html`<div class="faces" role="group" aria-label=${t("faces.title")}>
        <span>${t("faces.title")}</span>
        ${subject.faces.map(
          (face, index) =>
            html`<button
              type="button"
              aria-pressed=${String(face === subject.chosenFace)}
              @click=${() => pictures.chooseFace(subject, index)}
            >
              ${t("faces.one", { number: index + 1 })}
            </button>`,
        )}
      </div>`;

const pictureButtons = (picture) => html`<p>
  <label>
    <input
      type="checkbox"
      .checked=${live(picture.aligned)}
      @change=${(event) => pictures.readAs(picture, event.target.checked)}
    />
    ${t("picture.aligned")}
  </label>
  <button type="button" @click=${() => pictures.remove(picture)}>${t("picture.remove")}</button>
</p>`;

const cameraButtons = (camera) => html`<p>
  <button type="button" @click=${() => camera.keep(t("camera.name"))}>${t("camera.keep")}</button>
  <button type="button" @click=${() => camera.stop()}>${t("camera.stop")}</button>
</p>`;

function readingOf(subject) {
  if (subject.chosenFace) return readingView(subject.chosenFace);
  if (subject === state.camera)
    return subject.frames
      ? html`<p>${t("camera.no_face")}</p>`
      : busy(t("reading.busy"));
  if (subject.status === "failed") return troubleBox(subject.trouble, again(subject));
  return busy(t(`reading.${subject.status}`));
}

const again = ({ trouble }) =>
  ["refused", "no_face", "not_a_picture"].includes(trouble.kind) ? null : pictures.retry;
