import type { ModalityInfo } from "../../contract";
import type { JsonSchema } from "../../model/form";
import { formatShare } from "../../model/format";
import { mixShares } from "../../model/mix";
import type { Draft } from "./draft";
import { Option } from "./option";
import { MODALITY_FIELDS } from "./options";

interface MixProps {
  draft: Draft;
  root: JsonSchema;
  modalities: ModalityInfo[];
}

/** What is learned in what shares. */
export function Mix({ draft, root, modalities }: MixProps) {
  const weights = modalities.map((info) => draft.valueOf(`modalities.${info.name}.weight`));
  const shares = mixShares(weights);
  return (
    <fieldset class="card group">
      <legend>Modalities</legend>
      <div class="mix-bar" aria-hidden="true">
        {modalities.map((info, i) => (
          <span key={info.name} class={`mix-part c${i + 1}`} style={{ flexGrow: shares[i] ?? 0 }} />
        ))}
      </div>
      {modalities.map((info, i) => (
        <div class="mix-row" key={info.name}>
          <h3>
            <span class={`dot c${i + 1}`} aria-hidden="true" />
            {info.label}
            <span class="muted number"> {shares[i] === 0 ? "off" : formatShare(shares[i])}</span>
          </h3>
          <div class="fields">
            {MODALITY_FIELDS.map(({ path, label }) => (
              <Option
                key={path}
                draft={draft}
                root={root}
                path={`modalities.${info.name}.${path}`}
                label={label}
              />
            ))}
          </div>
        </div>
      ))}
    </fieldset>
  );
}
