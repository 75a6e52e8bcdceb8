export { findChatTemplate, type RenderOptions, renderChat, type TemplateMessage } from "./chat_template.ts";
export { decodeImage } from "./decode.ts";
export { type PixelBudget, type RgbImage, resizeBicubic, roundHalfEven, smartResize, toPatches } from "./image.ts";
export { StreamDecoder, Tokenizer } from "./tokenizer.ts";
