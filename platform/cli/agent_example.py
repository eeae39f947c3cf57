"""A document with every field of an agent, for people to begin with."""

from typing import Final

EXAMPLE: Final = """\
# An agent: instructions, pattern, tools and limits. Create it with
# `agentmesh agent create --file FILE`; change it with `agentmesh agent update --file FILE`.
# Only `instructions` must be there. What is left out has the value named beside it.

id: researcher                  # 1 to 63 lower-case letters, digits or -
description: Finds out what our documents say, part by part.   # for people, and supervisors

# What the agent is told before anything else; at most 64 KiB.
instructions: |
  You answer questions about our products. Rest on the documents, cite them,
  and say so plainly when they do not answer a question.

# single-shot, react (the default), plan-and-execute, reflection or supervisor.
pattern: supervisor

# What it may call; all tools of the tenant, if left out. ask_person, wait and delegate
# make a task wait, and must be named.
tools: [calculator, search_memory]

tier: balanced                  # fast, balanced or powerful; each call is classified, if left out
lane: standard                  # interactive, standard (the default) or batch
max_steps: 40                   # model and tool steps of a task, 1 to 1000; 16
use_session_memory: true        # tasks with a session read and write its memory; false

# JSON Schema of the answer, an object; prose, if left out.
output_schema:
  type: object
  properties:
    answer: {type: string}
    certain: {type: boolean}
  required: [answer, certain]
  additionalProperties: false

# What one task may use. At a limit it ends PARTIAL, with its best result. None, if left out.
limits:
  max_output_tokens: 2000       # of one model answer
  max_tokens: 200000            # of all model calls of a task, its child tasks not counted
  max_cost_micros: 500000       # millionths of a US dollar, child tasks included
  # max_revisions: 2            # with reflection: 1 to 8; 2
  max_workers: 4                # with supervisor: parts at a time, 1 to 64; 8
  worker_max_tokens: 40000      # with supervisor: of one part, over all of its tries
  worker_max_cost_micros: 100000   # with supervisor: of one part, over all of its tries

# With supervisor: the agents that parts may go to, with @version if it is to stay. Itself,
# without its workers, if left out.
workers: [assistant]

# What of a long conversation a model call is given. Instructions and the request always are.
context:
  max_tokens: 16000             # 256 or more; as many as the tier's smallest model takes
  full_messages: 5              # so many of the newest stay whole, 1 to 100; 5

# For updates: that of the version you changed, so that nobody's change is lost.
# etag: 0123456789abcdef
"""
