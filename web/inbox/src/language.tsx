// The other language, one press away.
import { currentLanguage, say, speak } from "./words.ts";

export function LanguageButton() {
  const other = currentLanguage() === "zh" ? "en" : "zh";
  return (
    <button type="button" class="plain" lang={other} onClick={() => speak(other)}>
      {say("language")}
    </button>
  );
}
