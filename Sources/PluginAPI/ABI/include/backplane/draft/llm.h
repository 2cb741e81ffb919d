/*
 * backplane/draft/llm.h - DRAFT, not promised: the kind `llm`, a language-model provider with streamed answers.
 */
#ifndef BACKPLANE_DRAFT_LLM_H
#define BACKPLANE_DRAFT_LLM_H

#include "../core.h"

#ifdef __cplusplus
extern "C" {
#endif

#define BP_LLM_ID "backplane.llm/1"

typedef struct bp_llm_request {
  uint32_t size;
  uint32_t credits; /* chunks that may be emitted at once; more by grant */
  bp_view model;
  bp_view json; /* messages, tools, schema, limits: the provider-neutral request; unknown members pass through */
} bp_llm_request;

#define BP_LLM_TEXT 0u
#define BP_LLM_REASONING 1u
#define BP_LLM_TOOL_CALL 2u

typedef struct bp_llm_chunk {
  bp_chunk chunk;
  uint32_t type; /* BP_LLM_* */
  uint32_t index;
} bp_llm_chunk;

/* Usage is a duty, on failure too: what the provider did not report is estimated and flagged. */
#define BP_LLM_USAGE_ESTIMATED 1u

typedef struct bp_llm_result {
  bp_result result;
  uint32_t flags;
  uint32_t reserved;
  uint64_t input_tokens;
  uint64_t cached_tokens;
  uint64_t output_tokens;
  bp_view finish_reason;
  bp_view provider_request_id;
} bp_llm_result;

typedef struct bp_llm {
  uint32_t size;
  uint32_t flags;

  /* A stream of bp_llm_chunk, then complete (bp_llm_result). [any-thread] [states: SERVING] */
  void (*generate)(void *self, const bp_call *call, const bp_llm_request *request, bp_token token);
} bp_llm;

BP_STATIC_ASSERT(sizeof(bp_llm_request) == 40, "bp_llm_request");
BP_STATIC_ASSERT(sizeof(bp_llm_chunk) == 32, "bp_llm_chunk");
BP_STATIC_ASSERT(sizeof(bp_llm_result) == 112, "bp_llm_result");
BP_STATIC_ASSERT(sizeof(bp_llm) == 16, "bp_llm");

#ifdef __cplusplus
}
#endif

#endif
