// "Draw": people to pick, states to begin from, sliders in groups, and the faces.

import { html, nothing } from "../vendor/lit-html/lit-html.js";
import { live } from "../vendor/lit-html/directives/live.js";
import { source } from "./api.js";
import { circumplex } from "./circumplex.js";
import { cancel, draw, drawing, showPeople, toggleSeed, usePreset, useReference, wish } from "./drawing.js";
import { busy, hint, save, troubleBox } from "./parts.js";
import { Picture, add } from "./pictures.js";
import { limits } from "./reading.js";
import { labelName, sentence, unitName } from "./sentence.js";
import { changed, state } from "./store.js";
import { number, signed, t } from "./strings.js";

const PEOPLE = 6;
const TIMES = 2; // drawn faces are shown at this many times their size
// Regions of the face that share a group of sliders.
const GROUPS = { brows: ["brow"], eyes: ["eye"], nose: ["nose", "cheek"], mouth: ["mouth", "chin"] };

export function drawView() {
  return html`<h2>${t("draw.title")}</h2>
    <p>${t("draw.lead")} ${t("draw.scale")}</p>
    <form
      class="columns"
      @submit=${(event) => {
        event.preventDefault();
        draw();
      }}
    >
      <div>${people()} ${presets()} ${affect()} ${units()}</div>
      <div class="drawn">
        <div class="go">${buttons()}</div>
        ${outcome()} ${limits()}
      </div>
    </form>`;
}

function people() {
  const { status, pictures, trouble } = drawing.people;
  return html`<fieldset class="people">
    <legend>${t("draw.people")}</legend>
    ${status === "drawing" ? busy(t("draw.people_busy")) : nothing}
    ${status === "failed"
      ? troubleBox(trouble, () => showPeople(drawing.firstSeed))
      : nothing}
    <ul class="thumbs">
      ${pictures.map(person)} ${readFace()}
    </ul>
    <button
      type="button"
      id="others"
      ?disabled=${status === "drawing"}
      @click=${() => showPeople(drawing.firstSeed + PEOPLE)}
    >
      ${t("draw.others")}
    </button>
  </fieldset>`;
}

const person = ({ seed, image }) => html`<li>
  <button
    type="button"
    class="thumb"
    data-seed=${seed}
    aria-pressed=${String(!drawing.reference && drawing.seeds.includes(seed))}
    @click=${() => toggleSeed(seed)}
  >
    <img src=${source(image)} alt=${t("draw.person", { seed })} />
  </button>
</li>`;

/** The person whose face was read, if there is one. */
function readFace() {
  const face = state.chosen?.chosenFace;
  if (!face) return nothing;
  return html`<li>
    <button
      type="button"
      class="thumb"
      id="reference"
      aria-pressed=${String(drawing.reference === face)}
      @click=${() => useReference(drawing.reference === face ? null : face)}
    >
      <img src=${face.picture.url} alt="" />
      <span class="thumb-name">
        ${t("draw.reference", { name: face.picture.name, number: face.index + 1 })}
      </span>
    </button>
  </li>`;
}

const presets = () => html`<fieldset>
  <legend>${t("draw.presets")}</legend>
  <p class="presets">
    ${state.presets.map(
      (preset) =>
        html`<button
          type="button"
          data-preset=${preset.name}
          @click=${() => usePreset(preset)}
        >
          ${t(`preset.${preset.name}`)}
        </button>`,
    )}
    <button type="button" data-preset="any" @click=${() => usePreset({ aus: {} })}>
      ${t("preset.any")}
    </button>
  </p>
</fieldset>`;

function affect() {
  if (state.card.labels === "au") return nothing;
  const { valence, arousal } = drawing.wishes;
  const move = (v, a) => {
    wish("valence", v);
    wish("arousal", a);
  };
  const said = (value) => (value === undefined ? t("any") : signed(value));
  const label = t("circumplex.label", { valence: said(valence), arousal: said(arousal) });
  return html`<fieldset class="affect">
    <legend>${t("draw.affect")}</legend>
    ${circumplex({ valence, arousal, onMove: move, label })}
    <div>
      ${["valence", "arousal"].map((name) =>
        slider(name, t(`label.${name}`), -1, hint(`draw-${name}`, "?", t(`${name}.what`))),
      )}
      <p class="quiet">${t("draw.any_how")}</p>
    </div>
  </fieldset>`;
}

const units = () =>
  state.card.labels === "va"
    ? nothing
    : Object.entries(GROUPS).map(([group, regions]) => {
        const codes = state.card.vocabulary.filter((code) =>
          regions.includes(state.units[code]?.region),
        );
        return codes.length
          ? html`<fieldset>
              <legend>${t(`group.${group}`)}</legend>
              ${codes.map((code) => slider(code, unitName(code), 0, html`<small>${code}</small>`))}
            </fieldset>`
          : nothing;
      });

/** A slider that may be let go: "any" follows what the model learnt to go with the rest. */
function slider(name, title, low, beside) {
  const value = drawing.wishes[name];
  const any = value === undefined;
  const letGo = (event) => {
    if (!["Delete", "Backspace"].includes(event.key)) return;
    event.preventDefault();
    wish(name, null);
  };
  return html`<div class="wish">
    <label for="wish-${name}">${title}</label> ${beside}
    <input
      id="wish-${name}"
      type="range"
      min=${low}
      max="1"
      step="0.05"
      class=${any ? "any" : ""}
      aria-valuetext=${any ? t("any") : number(value)}
      .value=${live(String(value ?? 0))}
      @input=${(event) => wish(name, Number(event.target.value))}
      @keydown=${letGo}
    />
    <output for="wish-${name}">${any ? t("any") : number(value)}</output>
    <button
      type="button"
      class="plain"
      aria-label=${t("draw.let_go", { name: title })}
      ?disabled=${any}
      @click=${() => wish(name, null)}
    >
      ×
    </button>
  </div>`;
}

const buttons = () => html`<p>
  <button id="draw" class="primary" ?disabled=${drawing.status === "drawing"}>
    ${t("draw.go")}
  </button>
  <label>
    <input
      type="checkbox"
      .checked=${live(drawing.live)}
      @change=${(event) => {
        drawing.live = event.target.checked;
        changed();
        if (drawing.live) draw();
      }}
    />
    ${t("draw.live")}
  </label>
</p>`;

function outcome() {
  return html`<div class="results" aria-busy=${String(drawing.status === "drawing")}>
    ${drawing.status === "drawing" ? busy(t("draw.busy"), cancel) : nothing}
    ${drawing.status === "failed" ? troubleBox(drawing.trouble, draw) : nothing}
    ${drawing.results.map(drawnFace)}
    ${drawing.results.length ? html`<p class="quiet">${t("draw.synthetic")}</p>` : nothing}
  </div>`;
}

function drawnFace(result) {
  const name = `face-${result.seed}.png`;
  return html`<figure>
    <img
      .style=${`width: ${TIMES * state.card.image_px}px`}
      src=${source(result.image)}
      alt=${t("draw.face", { seed: result.seed })}
    />
    <figcaption>
      <p>${t("draw.read_back")} ${sentence(result.measured)}</p>
      ${askedAndRead(result)}
      <button type="button" @click=${() => save(source(result.image), name)}>
        ${t("draw.save")}
      </button>
      <button type="button" @click=${() => readIt(result, name)}>${t("draw.read")}</button>
    </figcaption>
  </figure>`;
}

/** What was asked for, beside what is read off the picture. */
function askedAndRead({ requested, measured }) {
  const { valence, arousal, aus = {} } = requested;
  const asked = Object.entries({ valence, arousal, ...aus }).filter(
    ([, value]) => typeof value === "number",
  );
  if (!asked.length) return nothing;
  return html`<details>
    <summary>${t("draw.compared")}</summary>
    <table>
      <caption>
        ${t("draw.compared_caption")}
      </caption>
      <thead>
        <tr>
          <th scope="col">${t("units.unit")}</th>
          <th scope="col">${t("draw.asked")}</th>
          <th scope="col">${t("draw.measured")}</th>
        </tr>
      </thead>
      <tbody>
        ${asked.map(
          ([name, value]) =>
            html`<tr>
              <th scope="row">${labelName(name)}</th>
              <td>${shown(name, value)}</td>
              <td>${shown(name, measured[name] ?? measured.aus?.[name]?.intensity)}</td>
            </tr>`,
        )}
      </tbody>
    </table>
  </details>`;
}

const shown = (name, value) =>
  typeof value !== "number" ? "" : state.units[name] ? number(value) : signed(value);

async function readIt(result, name) {
  const response = await fetch(source(result.image));
  add([new Picture(await response.blob(), name, { aligned: true })]);
  location.hash = "#read";
}
