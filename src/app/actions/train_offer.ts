import { toast } from "./notices.ts";
import { readSetting } from "./settings.ts";

/** The worker's lock while a run is under way, in whichever tab. */
const LOCK = "tabtune-training";

/** True when another tab trains; false where browsers cannot tell. */
export async function isTrainingElsewhere(): Promise<boolean> {
  const { held = [] } = (await navigator.locks?.query().catch(() => undefined)) ?? {};
  return held.some(({ name }) => name === LOCK);
}

/** Tells once, when the page opens, that a closed tab has left a run unfinished. */
export async function offerUnfinishedRun(): Promise<void> {
  const id = await readSetting<string>("unfinishedRun");
  if (!id || location.hash.startsWith("#/train") || (await isTrainingElsewhere())) return;
  toast("A training run was left unfinished. It can go on from its last checkpoint.", {
    action: {
      label: "Show it",
      run: () => {
        location.hash = "#/train/run";
      },
    },
  });
}
