import type { ModalityInfo } from "../../contract";
import { fieldAt, type JsonSchema } from "../../model/form";
import { formatShare } from "../../model/format";
import { effectiveWeight, isFed, mixShares } from "../../model/mix";
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
  const sources = draft.valueOf("data.sources");
  const weights = modalities.map((info) => draft.valueOf(`modalities.${info.name}.weight`));
  const shares = mixShares(modalities.map((info, i) => effectiveWeight(weights[i], isFed(info, sources))));
  return (
    <fieldset class="card group">
      <legend>Modalities</legend>
      <div class="mix-bar" aria-hidden="true">
        {modalities.map(
          (info, i) =>
            shares[i] !== 0 && (
              <span key={info.name} class={`mix-part c${i + 1}`} style={{ flexGrow: shares[i] }} />
            ),
        )}
      </div>
      <dl class="mix-help">
        {MODALITY_FIELDS.map(({ path, label }) => (
          <div key={path}>
            <dt>{label}</dt>
            <dd>{helpOf(root, modalities, path)}</dd>
          </div>
        ))}
      </dl>
      {modalities.map((info, i) => (
        <fieldset class="mix-row" key={info.name} aria-label={info.label}>
          <h3>
            <span class={`dot c${i + 1}`} aria-hidden="true" />
            <span>
              {info.label}
              <span class="muted number mix-share">
                {shareText(shares[i] ?? 0, weights[i], isFed(info, sources))}
              </span>
            </span>
          </h3>
          {MODALITY_FIELDS.map(({ path, label }) => (
            <Option
              key={path}
              draft={draft}
              root={root}
              path={`modalities.${info.name}.${path}`}
              label={label}
              isCompact
            />
          ))}
        </fieldset>
      ))}
    </fieldset>
  );
}

/** Said once for all modalities. */
function helpOf(root: JsonSchema, modalities: ModalityInfo[], path: string): string {
  const first = modalities[0];
  const field = first === undefined ? null : fieldAt(root, `modalities.${first.name}.${path}`);
  return (field?.help ?? "").replaceAll("`", "");
}

function shareText(share: number, weight: unknown, fed: boolean): string {
  if (share > 0) return formatShare(share);
  return weight === null && !fed ? "off: no data" : "off";
}
