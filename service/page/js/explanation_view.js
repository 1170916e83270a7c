// "Explain": a question about the chosen face, and what would have to change for another answer.

import { html, nothing } from "../vendor/lit-html/lit-html.js";
import { live } from "../vendor/lit-html/directives/live.js";
import { source } from "./api.js";
import { arrowKeys, busy, said, save, troubleBox } from "./parts.js";
import { bar } from "./reading.js";
import { changeSentence, labelName, nuisanceName } from "./sentence.js";
import { changed, state } from "./store.js";
import { known, number, percent, signed, t } from "./strings.js";

const TIMES = 3; // an explanation's pictures are shown at this many times their size
const FAMILIES = ["expression", "nuisance"];
const MOST_LISTED = 5;

export function explanationPanel(face) {
  const family = face?.family ?? "expression";
  return html`<section class="explain" aria-labelledby="explain-title">
    <h3 id="explain-title">${t("explain.title")}</h3>
    <div role="tablist" aria-labelledby="explain-title" @keydown=${arrowKeys}>
      ${FAMILIES.map((name) => tab(face, name, name === family))}
    </div>
    <div role="tabpanel" id="explain-panel" aria-labelledby="tab-${family}">
      <p>${t(`explain.${family}.lead`)}</p>
      ${face ? asked(face.explanations[family]) : html`<p>${t("explain.none")}</p>${start(null)}`}
    </div>
  </section>`;
}

const tab = (face, family, selected) => html`<button
  type="button"
  role="tab"
  id="tab-${family}"
  aria-selected=${String(selected)}
  aria-controls="explain-panel"
  tabindex=${selected ? 0 : -1}
  ?disabled=${!face || (family === "nuisance" && !state.card?.nuisances.length)}
  @click=${() => {
    face.family = family;
    changed();
  }}
>
  ${t(`explain.${family}`)}
</button>`;

function start(explanation) {
  const asking = explanation?.status === "asking";
  return html`<button
    type="button"
    id="ask"
    class="primary"
    ?disabled=${!explanation || asking}
    @click=${() => explanation.ask()}
  >
    ${t("explain.ask")}
  </button>`;
}

function asked(explanation) {
  return html`<div class="question">
      ${questionFields(explanation)} ${start(explanation)}
    </div>
    <div aria-busy=${String(explanation.status === "asking")} class="explanation">
      ${outcome(explanation)}
    </div>`;
}

function questionFields(explanation) {
  const labels = state.card?.labels;
  const names = [
    ...(labels === "au" ? [] : ["valence", "arousal"]),
    ...(labels === "va" ? [] : state.card.vocabulary),
  ];
  const change = (name) => (event) => {
    explanation[name] = event.target.type === "checkbox" ? event.target.checked : event.target.value;
    changed();
  };
  return html`<label>
      ${t("explain.question")}
      <select id="question" @change=${change("label")}>
        <option value="" ?selected=${explanation.label === ""}>${t("explain.strongest")}</option>
        ${names.map(
          (name) =>
            html`<option value=${name} ?selected=${explanation.label === name}>
              ${labelName(name)}
            </option>`,
        )}
      </select>
    </label>
    ${["valence", "arousal"].includes(explanation.label) ? targetField(explanation) : nothing}
    <label>
      <input type="checkbox" .checked=${live(explanation.gradients)} @change=${change("gradients")} />
      ${t("explain.gradients")}
    </label>`;
}

const targetField = (explanation) => html`<label>
  ${t("explain.target")}
  <input
    type="number"
    min="-1"
    max="1"
    step="0.1"
    .value=${live(String(explanation.target))}
    @change=${(event) => {
      explanation.target = Math.max(-1, Math.min(1, Number(event.target.value) || 0));
      changed();
    }}
  />
</label>`;

function outcome(explanation) {
  if (explanation.status === "asking")
    return busy(t("explain.busy"), () => explanation.cancel());
  if (explanation.status === "failed")
    return troubleBox(explanation.trouble, () => explanation.ask());
  return explanation.result ? answer(explanation, explanation.result) : nothing;
}

function answer(explanation, result) {
  return html`<p class="sentence">${words(result, result, explanation.family)}</p>
    ${trust(result)}
    <div class="columns">
      ${compare(explanation, result)} ${path(explanation, result)}
    </div>
    <div class="columns">
      ${causes(result, explanation.family)} ${readings(result)} ${places(result)}
    </div>
    ${result.integrated_gradients ? pixels(result.integrated_gradients) : nothing}
    ${alternatives(result, explanation.family)} ${scores(result.scores)}
    <p>
      <button
        type="button"
        @click=${() => save(source(result.counterfactual.image), "changed.png")}
      >
        ${t("explain.save_picture")}
      </button>
      <button
        type="button"
        @click=${() => save(JSON.stringify(result, null, 2), "explanation.json")}
      >
        ${t("explain.save")}
      </button>
    </p>`;
}

/** The sentence of an answer or of an alternative to it. */
function words(result, one, family) {
  const label = result.question.au ?? Object.keys(result.question)[0];
  const before = valueOf(result.factual, label);
  const change = { from: before, to: valueOf(one.counterfactual.prediction, label) };
  const causes = [...one.causes];
  if (family === "expression")
    causes.sort((a, b) => Math.abs(b.to - b.from) - Math.abs(a.to - a.from));
  return changeSentence(result.question, change, causes, one.counterfactual.valid, family);
}

const valueOf = (reading, label) => reading.aus?.[label]?.probability ?? reading[label];

const trust = ({ trust: { level, reasons } }) => html`<div class="trust" data-level=${level}>
  <p><strong>${t(`trust.${level}`)}</strong> ${t("trust.because")}</p>
  <ul>
    ${reasons.map((reason) => html`<li>${said(reason)}</li>`)}
  </ul>
</div>`;

const shownPx = () => TIMES * (state.card?.image_px ?? 128);

/** Before and after under a slider, and the map of the change over both. */
function compare(explanation, result) {
  const [before] = result.frames;
  const cut = `clip-path: inset(0 ${100 - explanation.split}% 0 0)`;
  const slide = (event) => event.buttons && splitAt(event, explanation);
  return html`<figure class="compare">
    <div
      class="layers"
      .style=${`width: ${shownPx()}px`}
      @pointerdown=${(event) => {
        event.currentTarget.setPointerCapture(event.pointerId);
        slide(event);
      }}
      @pointermove=${slide}
    >
      <img src=${source(before)} alt=${t("explain.before")} />
      <img src=${source(result.counterfactual.image)} alt=${t("explain.after")} .style=${cut} />
      <img
        src=${source(result.map.signed)}
        alt=${t("explain.map")}
        .style=${`opacity: ${explanation.map / 100}`}
      />
      <span class="split" aria-hidden="true" .style=${`left: ${explanation.split}%`}></span>
      <span class="corner" aria-hidden="true" ?hidden=${explanation.split < 25}
        >${t("explain.after_short")}</span
      >
      <span class="corner right" aria-hidden="true" ?hidden=${explanation.split > 75}
        >${t("explain.before_short")}</span
      >
    </div>
    <figcaption>
      ${slider(explanation, "split", t("explain.split"))}
      ${slider(explanation, "map", t("explain.map_strength"))}
      <p class="quiet">${t("explain.map_legend")}</p>
    </figcaption>
  </figure>`;
}

/** The picture itself is the slider too. */
function splitAt(event, explanation) {
  const { left, width } = event.currentTarget.getBoundingClientRect();
  const share = (event.clientX - left) / width;
  explanation.split = Math.round(100 * Math.max(0, Math.min(1, share)));
  changed();
}

const slider = (explanation, name, label) => html`<label class="slider">
  <span>${label}</span>
  <input
    type="range"
    min="0"
    max="100"
    data-name=${name}
    .value=${live(String(explanation[name]))}
    @input=${(event) => {
      explanation[name] = Number(event.target.value);
      changed();
    }}
  />
  <output>${percent(explanation[name] / 100)}</output>
</label>`;

/** The way from the face to the changed one, frame by frame or as an animation. */
function path(explanation, { frames }) {
  const last = frames.length - 1;
  const playing = explanation.timer !== null;
  return html`<figure class="path">
    <img
      .style=${`width: ${shownPx()}px`}
      src=${source(frames[explanation.frame])}
      alt=${t("explain.path_alt", { frame: explanation.frame + 1, of: frames.length })}
    />
    <figcaption>
      <label class="slider">
        <span>${t("explain.path")}</span>
        <input
          type="range"
          min="0"
          max=${last}
          data-name="frame"
          .value=${live(String(explanation.frame))}
          @input=${(event) => {
            explanation.frame = Number(event.target.value);
            explanation.pause();
          }}
        />
        <output>${t("explain.frame", { frame: explanation.frame + 1, of: frames.length })}</output>
      </label>
      <button
        type="button"
        id="play"
        @click=${() => (playing ? explanation.pause() : explanation.play())}
      >
        ${playing ? t("explain.pause") : t("explain.play")}
      </button>
    </figcaption>
  </figure>`;
}

/** What each cause does alone. */
function causes({ attribution, question }, family) {
  const rows = Object.entries(attribution)
    .filter(([, by]) => Math.abs(by) >= 0.005)
    .sort((a, b) => Math.abs(b[1]) - Math.abs(a[1]))
    .slice(0, MOST_LISTED);
  if (!rows.length) return nothing;
  const name = family === "nuisance" ? nuisanceName : labelName;
  const most = Math.max(...rows.map(([, by]) => Math.abs(by)));
  return table(
    t("explain.attribution"),
    [t("explain.cause"), t(question.au ? "explain.alone_logits" : "explain.alone_points")],
    rows.map(([label, by]) => [name(label), html`${bar(Math.abs(by) / most)} ${signed(by)}`]),
  );
}

const readings = ({ changes }) =>
  changes.length
    ? table(
        t("explain.changes"),
        [t("explain.label"), t("explain.from"), t("explain.to")],
        changes.slice(0, MOST_LISTED).map(({ label, from, to }) => [
          labelName(label),
          shown(label, from),
          shown(label, to),
        ]),
      )
    : nothing;

const shown = (label, value) => (state.units[label] ? number(value) : signed(value));

const places = ({ regions }) =>
  table(
    t("explain.regions"),
    [t("explain.region"), t("explain.share")],
    Object.entries(regions)
      .filter(([, share]) => share > 0.005)
      .sort((a, b) => b[1] - a[1])
      .map(([name, share]) => [t(`region.${name}`), html`${bar(share)} ${percent(share)}`]),
  );

const table = (caption, heads, rows) => html`<table>
  <caption>
    ${caption}
  </caption>
  <thead>
    <tr>
      ${heads.map((head) => html`<th scope="col">${head}</th>`)}
    </tr>
  </thead>
  <tbody>
    ${rows.map(
      ([name, ...cells]) =>
        html`<tr>
          <th scope="row">${name}</th>
          ${cells.map((cell) => html`<td>${cell}</td>`)}
        </tr>`,
    )}
  </tbody>
</table>`;

const pixels = ({ image, regions }) => html`<div class="columns">
  <figure>
    <img .style=${`width: ${shownPx()}px`} src=${source(image)} alt=${t("explain.pixels_alt")} />
    <figcaption>${t("explain.pixels")}</figcaption>
  </figure>
  ${table(
    t("explain.pixels_regions"),
    [t("explain.region"), t("explain.signed_share")],
    Object.entries(regions).map(([name, share]) => [t(`region.${name}`), signed(share)]),
  )}
</div>`;

function alternatives(result, family) {
  if (!result.alternatives?.length) return nothing;
  return html`<h4>${t("explain.alternatives")}</h4>
    <ul class="alternatives">
      ${result.alternatives.map(
        (one) =>
          html`<li>
            <img src=${source(one.counterfactual.image)} alt=${t("explain.after")} />
            <img src=${source(one.map.signed)} alt=${t("explain.map")} />
            <p>${words(result, one, family)} ${t(`trust.${one.trust.level}`)}</p>
          </li>`,
      )}
    </ul>`;
}

const scores = (values) => html`<details>
  <summary>${t("scores.title")}</summary>
  <dl class="scores">
    ${Object.entries(values).map(
      ([name, value]) =>
        html`<dt>${known(`score.${name}`) ?? name}</dt>
          <dd>${number(value, 3)} <small>${known(`score.${name}.unit`) ?? ""}</small></dd>`,
    )}
  </dl>
</details>`;
