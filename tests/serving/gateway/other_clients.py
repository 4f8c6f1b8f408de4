"""Run in an environment of its own: asks a gateway through LangChain and LiteLLM, and prints what came, as JSON."""

import asyncio
import json
import sys

import litellm
from langchain_openai import ChatOpenAI, OpenAI

url, model = sys.argv[1:]
QUESTION = [{"role": "user", "content": "say it again"}]
TOOL = {
    "type": "function",
    "function": {"name": "weather", "description": "x", "parameters": {"type": "object", "properties": {}}},
}
chat = ChatOpenAI(base_url=url, api_key="unused", model=model, max_retries=0)
through = {"model": f"openai/{model}", "api_base": url, "api_key": "unused"}
came = {
    "langchain_chat": chat.invoke("say it again").content,
    "langchain_stream": "".join(part.content for part in chat.stream("say it again")),
    "langchain_async": asyncio.run(chat.ainvoke("say it again")).content,
    "langchain_tools": [call["name"] for call in chat.bind_tools([TOOL]).invoke("weather?").tool_calls],
    "langchain_prompt": OpenAI(base_url=url, api_key="unused", model=model, max_retries=0).invoke("say it again"),
    "litellm_chat": litellm.completion(messages=QUESTION, **through).choices[0].message.content,
    "litellm_stream": "".join(
        part.choices[0].delta.content or "" for part in litellm.completion(messages=QUESTION, stream=True, **through)
    ),
    "litellm_async": asyncio.run(litellm.acompletion(messages=QUESTION, **through)).choices[0].message.content,
}
print(json.dumps(came))  # noqa: T201  # its caller reads it
