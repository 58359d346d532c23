// Reads {tables, texts} as JSON from standard input, and writes what the tokenizer of a page makes of each text.
// The script of the page is named by the first argument.
import { readFileSync } from "node:fs";
import { pathToFileURL } from "node:url";

const { Tokenizer } = await import(pathToFileURL(process.argv[2]));
const { tables, texts } = JSON.parse(readFileSync(0, "utf8"));
const tokenizer = new Tokenizer(tables);
process.stdout.write(JSON.stringify(texts.map((text) => tokenizer.encode(text))));
