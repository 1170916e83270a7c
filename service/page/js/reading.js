// A face's reading: warnings first, one sentence, where it lies in the circumplex, every Action Unit.

import { html, nothing } from "../vendor/lit-html/lit-html.js";
import { circumplex } from "./circumplex.js";
import { hint, said, save } from "./parts.js";
import { isUnsure, sentence, threshold, unitName } from "./sentence.js";
import { state } from "./store.js";
import { known, listed, number, percent, signed, t } from "./strings.js";

const BAR = 100; // width of a bar's drawing

export function readingView(face) {
  const { reading } = face;
  return html`${warnings(reading)}
    <p class="sentence">${sentence(reading)}</p>
    <div class="affect">${plane(reading)} ${facts(reading)}</div>
    ${reading.aus && Object.keys(reading.aus).length ? unitTables(reading.aus) : nothing}
    <p>
      <button type="button" @click=${() => save(JSON.stringify(reading, null, 2), "reading.json")}>
        ${t("reading.save")}
      </button>
    </p>
    ${limits()}`;
}

function warnings({ warnings: given = [] }) {
  if (!given?.length) return nothing;
  return html`<div class="warnings" role="note" aria-label=${t("warning.title")}>
    <p><strong>${t("warning.title")}</strong></p>
    <ul>
      ${given.map(({ code, detail }) => {
        const words = known(`warning.${code}`);
        return html`<li>${words ? html`${words} <small>${said(detail)}</small>` : said(detail)}</li>`;
      })}
    </ul>
  </div>`;
}

function plane({ valence, arousal }) {
  if (typeof valence !== "number") return nothing;
  const error = typicalError();
  const values = { valence: signed(valence), arousal: signed(arousal) };
  return html`<figure>
    ${circumplex({ valence, arousal, error, label: t("circumplex.label", values) })}
    <figcaption>
      ${error ? t("circumplex.error", { by: number(error.valence), on: number(error.arousal) }) : ""}
    </figcaption>
  </figure>`;
}

/**
 * How far a reading is typically off, from what the card says was measured: the root mean square
 * error where it has one, else what a CCC means for labels that spread as these do:
 * MSE = 2 sd^2 (1 - CCC), for a reader that spreads as much as the labels.
 */
export function typicalError() {
  const one = (name) => {
    const measured = state.card?.quality[`${name}_rmse`]?.value;
    if (measured !== undefined) return measured;
    const ccc = state.card?.quality[`${name}_ccc`]?.value;
    const quantiles = state.card?.reference[name];
    if (ccc === undefined || !quantiles?.length) return null;
    return deviation(quantiles) * Math.sqrt(2 * Math.max(0, 1 - ccc));
  };
  const [valence, arousal] = [one("valence"), one("arousal")];
  return valence === null || arousal === null ? null : { valence, arousal };
}

function deviation(values) {
  const mean = values.reduce((sum, value) => sum + value, 0) / values.length;
  return Math.sqrt(values.reduce((sum, value) => sum + (value - mean) ** 2, 0) / values.length);
}

function facts(reading) {
  return html`<dl class="facts">
    ${["valence", "arousal"].map((name) => dimension(name, reading[name]))}
    ${reading.expression ? expression(reading.expression) : nothing}
    ${reading.pose ? pose(reading.pose) : nothing}
    <dt>${hint("tip-realism", t("label.realism"), t("realism.what"))}</dt>
    <dd>${percent(reading.realism)}</dd>
    ${reading.confidence
      ? html`<dt>${t("label.confidence")}</dt>
          <dd>${percent(reading.confidence)}</dd>`
      : nothing}
  </dl>`;
}

const dimension = (name, value) =>
  typeof value !== "number"
    ? nothing
    : html`<dt>${hint(`tip-${name}`, t(`label.${name}`), t(`${name}.what`))}</dt>
        <dd>${signed(value)} <small>${t("scale.signed")}</small></dd>`;

function expression({ label, probabilities = {} }) {
  const others = Object.entries(probabilities)
    .sort((a, b) => b[1] - a[1])
    .filter(([name]) => name !== label)
    .slice(0, 2);
  const said = (name) => known(`expression.${name}`) ?? name;
  const share = label in probabilities ? ` ${percent(probabilities[label])}` : "";
  return html`<dt>${hint("tip-expression", t("label.expression"), t("expression.what"))}</dt>
    <dd>
      ${said(label)}${share}
      <small>${others.map(([name, p]) => `${said(name)} ${percent(p)}`).join(", ")}</small>
    </dd>`;
}

function pose(angles) {
  const turns = ["yaw", "pitch", "roll"].filter((axis) => Math.round(angles[axis] ?? 0));
  const words = turns.map((axis) => turned(axis, angles[axis])).join(", ");
  return html`<dt>${t("label.pose")}</dt>
    <dd>${words || t("pose.straight")}</dd>`;
}

const turned = (axis, degrees) =>
  t(`pose.${axis}.${degrees < 0 ? "low" : "high"}`, { degrees: number(Math.abs(degrees), 0) });

/** What is seen or in doubt, and the rest below a fold; in each the most probable first. */
function unitTables(aus) {
  const rows = Object.entries(aus).sort(
    ([, a], [, b]) => b.present - a.present || b.probability - a.probability,
  );
  const isToBeShown = ([code, unit]) => unit.present || isUnsure(code, unit);
  const rest = rows.filter((row) => !isToBeShown(row));
  return html`${unitTable("shown", t("units.caption"), rows.filter(isToBeShown))}
    ${rest.length
      ? html`<details>
          <summary>${t("units.rest", { count: rest.length })}</summary>
          ${unitTable("rest", t("units.rest_caption"), rest)}
        </details>`
      : nothing}`;
}

function unitTable(id, caption, rows) {
  if (!rows.length) return nothing;
  const sided = rows.some(([, unit]) => typeof unit.left === "number");
  return html`<table class="units">
    <caption>
      ${caption}
    </caption>
    <thead>
      <tr>
        <th scope="col">${t("units.unit")}</th>
        <th scope="col">${t("units.present")}</th>
        <th scope="col">
          ${hint(`${id}-probability`, t("units.probability"), t("units.probability.what"))}
        </th>
        <th scope="col">
          ${hint(`${id}-intensity`, t("units.intensity"), t("units.intensity.what"))}
          <small>${t("scale.share")}</small>
        </th>
        ${sided
          ? html`<th scope="col">
              ${hint(`${id}-sides`, t("units.sides"), t("units.sides.what"))}
              <small>${t("scale.share")}</small>
            </th>`
          : nothing}
      </tr>
    </thead>
    <tbody>
      ${rows.map(([code, unit]) => unitRow(code, unit, sided))}
    </tbody>
  </table>`;
}

function unitRow(code, unit, sided) {
  const muscles = state.units[code]?.muscles.join("; ") ?? "";
  return html`<tr class=${unit.present ? "present" : ""}>
    <th scope="row">
      ${unitName(code)} <small>${code} · <span lang="la">${muscles}</span></small>
    </th>
    <td>${unit.present ? t("yes") : t("no")}</td>
    <td>${bar(unit.probability, threshold(code))} ${percent(unit.probability)}</td>
    <td>${typeof unit.intensity === "number" ? number(unit.intensity) : ""}</td>
    ${sided ? html`<td>${sides(unit)}</td>` : nothing}
  </tr>`;
}

const sides = ({ left, right }) =>
  typeof left !== "number" || typeof right !== "number"
    ? ""
    : html`<span class="side">${t("units.left")} ${bar(left)} ${number(left)}</span>
        <span class="side">${t("units.right")} ${bar(right)} ${number(right)}</span>`;

/** A bar for a share in [0, 1], with a mark where the decision falls. The number stands beside it. */
export const bar = (share, mark = null) => html`<svg
  class="bar"
  viewBox="0 0 ${BAR} 10"
  preserveAspectRatio="none"
  aria-hidden="true"
>
  <rect class="ground" width=${BAR} height="10"></rect>
  <rect class="fill" width=${BAR * Math.max(0, Math.min(1, share))} height="10"></rect>
  <line
    class="mark"
    x1=${BAR * (mark ?? 0)}
    x2=${BAR * (mark ?? 0)}
    y1="0"
    y2="10"
    ?hidden=${mark === null}
  ></line>
</svg>`;

/** The pictures that taught the model, by its card. */
const learntFrom = ({ images, sources, licence }) => html`<p>
  ${t("limits.learnt", { images: number(images, 0), sources: listed(sources.map(sourceName)) })}
  <small lang="en">${licence}</small>
</p>`;

const sourceName = (name) => known(`source.${name}`) ?? name;

/** What a reading is not, what taught it, and the law, beside every reading. */
export const limits = () => html`<aside class="limits" aria-label=${t("limits.title")}>
  <p><strong>${t("limits.short")}</strong></p>
  ${state.card ? learntFrom(state.card.data) : nothing}
  <p>${t("law.short")}</p>
  <details>
    <summary>${t("limits.title")}</summary>
    <ul lang="en">
      ${(state.card?.limits ?? []).map((limit) => html`<li>${limit}</li>`)}
    </ul>
    <p>${t("law.prohibited")}</p>
    <p>${t("law.transparency")}</p>
    <p>${t("law.high_risk")}</p>
    <p>${t("law.data")}</p>
  </details>
</aside>`;
