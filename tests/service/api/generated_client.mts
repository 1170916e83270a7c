// What somebody writes in TypeScript against the generated types: every answer is typed.
import { readFileSync } from "node:fs";
import createClient from "openapi-fetch";
import type { paths } from "./faces.js";

const [baseUrl, file] = process.argv.slice(2);
const client = createClient<paths>({ baseUrl });
const picture = readFileSync(file);

const read = await client.POST("/v1/predict", {
  body: picture as unknown as string, // a raw picture; the types call its bytes a string
  headers: { "Content-Type": "image/jpeg" },
  bodySerializer: (body) => body as unknown as BodyInit,
});
if (read.data && "results" in read.data) {
  const probability: number | undefined = read.data.results[0].faces?.[0].aus?.["AU12"].probability;
  if (probability !== undefined) console.log("read");
}

const explained = await client.POST("/v1/explain", {
  body: {
    images: [{ content: picture.toString("base64") }],
    options: { question: { au: "AU12" }, faces: "largest", family: "expression" },
  },
});
if (explained.data && "results" in explained.data) {
  const level: "high" | "medium" | "low" | undefined = explained.data.results[0].trust?.level;
  if (level) console.log("explained");
}

const drawn = await client.POST("/v1/generate", {
  body: { items: [{ aus: { AU12: 0.9 }, seed: 7 }], format: "png", faces: "largest" },
});
if (drawn.data && typeof drawn.data !== "string" && "results" in drawn.data) {
  const type: string | undefined = drawn.data.results[0].image?.media_type;
  if (type === "image/png") console.log("drawn");
}

const refused = await client.POST("/v1/predict", { body: { images: [] } });
if (refused.error?.code === "no_images") console.log("refused");
