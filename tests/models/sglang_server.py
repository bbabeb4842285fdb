"""A server that answers as SGLang is documented to (docs.sglang.io: sampling parameters, native API); it is none."""

from faulty_server import FaultyServer, logp_of

KNOWN = {
    "max_new_tokens", "temperature", "top_p", "top_k", "min_p", "presence_penalty", "frequency_penalty",
    "repetition_penalty",
}  # fmt: skip


class SglangServer(FaultyServer):
    """/generate with token ids, beside completions whose log-probabilities name tokens by their text.

    more: silent: no log-probabilities. shifted: the values that are read belong to the token before.
    """

    def __init__(self, **more) -> None:
        super().__init__(owner="sglang", **more)

    def answer(self, request, path, body, fault) -> None:
        if path != "/generate":
            return super().answer(request, path, body, fault)
        assert body["return_logprob"] and {*body["sampling_params"]} == KNOWN
        ids, params = body["input_ids"], body["sampling_params"]
        meta = {"id": "1", "finish_reason": {"type": "length", "length": 1}, "prompt_tokens": len(ids)}
        meta |= {"completion_tokens": params["max_new_tokens"], "cached_tokens": 0}
        if not self.more.get("silent"):
            meta["output_token_logprobs"] = [[-1.0, 5, None]]
            if tokens := body.get("token_ids_logprob"):
                meta["output_token_ids_logprobs"] = [[[logp_of(ids, token), token, None] for token in tokens]]
            first = body["logprob_start_len"]
            if first >= 0:
                shift = bool(self.more.get("shifted"))
                rows = [[logp_of(ids[: k - shift], ids[k - shift]), ids[k], None] for k in range(first + 1, len(ids))]
                meta["input_token_logprobs"] = [[None, ids[first], None], *rows]
        return request.reply({"text": "x", "meta_info": meta})

    def complete(self, body: dict) -> dict:
        made = super().complete(body)
        if logprobs := made["choices"][0]["logprobs"]:
            logprobs["tokens"] = ["a word"]  # not ids
        return made
