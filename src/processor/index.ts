export { findChatTemplate, renderChat, type TemplateMessage } from "./chat_template.ts";
export { decodeImage, probeImage } from "./decode.ts";
export { type RgbImage, resizeBicubic, resizeInTurns, roundHalfEven, smartResize, toPatches } from "./image.ts";
export { type StreamDecoder, Tokenizer } from "./tokenizer.ts";
