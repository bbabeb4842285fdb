"""The pages' server: a few JSON answers, a stream of tokens and one page, on 127.0.0.1 alone.

Starlette and uvicorn rather than Gradio: they are small (under 1 MB against 106), start in a fifth of a second, and
let the page keep a strict content security policy, keys of its own and a stream of tokens.
"""

import asyncio
import json
import socket
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import uvicorn
from starlette.applications import Starlette
from starlette.concurrency import run_in_threadpool
from starlette.requests import Request
from starlette.responses import HTMLResponse, JSONResponse, Response, StreamingResponse
from starlette.routing import Route

from cai.annotate.agreement import summary
from cai.annotate.desk import Decision, Desk
from cai.annotate.guard import Guard
from cai.annotate.patience import PatientProtocol
from cai.core.errors import UserError
from cai.core.pages import page_templates
from cai.core.records import decode

if TYPE_CHECKING:
    from cai.annotate.live import Session

HERE = Path(__file__).parent
HOST = "127.0.0.1"


def page(template: str, nonce: str, **values: Any) -> str:
    """One of our pages: markup, style and script in one, the latter two with the nonce that lets them run."""
    return page_templates(HERE).get_template(template).render(nonce=nonce, **values)


def labelling(desk: Desk) -> Starlette:
    """The routes of the labelling page."""

    async def show(request: Request) -> Response:
        return HTMLResponse(page("page.html.jinja", request.scope["nonce"], name=desk.name))

    def summed(body: dict[str, Any]) -> dict[str, Any]:
        return summary(desk, desk.rater(body["rater"]))

    actions: dict[str, Callable[[dict[str, Any]], Any]] = {
        "welcome": lambda body: desk.welcome(),
        "next": lambda body: desk.state(body["rater"], body.get("again", 0)),
        "label": lambda body: desk.label(decode(body, Decision, "")),
        "undo": lambda body: desk.undo(body["rater"]),
        "reveal": lambda body: desk.reveal(body["rater"], body["pair_id"], body["principle"]),
    }
    routes = [Route(f"/api/{name}", answering(action), methods=["POST"]) for name, action in actions.items()]
    # The agreement takes seconds (intervals): in a thread, so that nobody's label waits for it.
    routes.append(Route("/api/summary", answering(summed, slow=True), methods=["POST"]))
    return Starlette(routes=[Route("/", show), *routes])


def talking(session: "Session", pace: float) -> Starlette:
    """The routes of the page of live feedback. pace: tokens a second."""

    async def show(request: Request) -> Response:
        return HTMLResponse(page("live.html.jinja", request.scope["nonce"], name=session.name))

    async def stream(request: Request) -> Response:
        try:
            answer = await run_in_threadpool(session.shown, request.query_params.get("answer", ""))
        except UserError as error:
            return JSONResponse({"error": error.problem, "remedy": error.remedy}, 404)
        return StreamingResponse(events(answer.pieces, pace), media_type="text/event-stream")

    actions: dict[str, Callable[[dict[str, Any]], Any]] = {
        "welcome": lambda body: session.welcome(),
        "state": lambda body: session.state(body["rater"]),
        "say": lambda body: session.say(body["rater"], body["text"], body["fresh"]),
        "press": lambda body: session.press(
            body["rater"], body["answer"], body["value"], body["seconds"], body["shown"], body["ended"]
        ),
        "choose": lambda body: session.choose(
            body["rater"], body["left"], body["right"], body["chosen"], body["seconds"]
        ),
    }
    # In threads: the policy and the regression take their time, and meanwhile a stream must flow.
    posts = [Route(f"/api/{name}", answering(act, slow=True), methods=["POST"]) for name, act in actions.items()]
    return Starlette(routes=[Route("/", show), Route("/api/stream", stream), *posts])


async def events(pieces: tuple[str, ...], pace: float) -> AsyncIterator[str]:
    """Server-sent events: each token's text at its time, and one at the end, a token's time after the last."""
    for piece in pieces:
        yield f"data: {json.dumps(piece)}\n\n"
        await asyncio.sleep(1 / pace)
    yield "event: end\ndata:\n\n"


def answering(action: Callable[[dict[str, Any]], Any], *, slow: bool = False) -> Callable[[Request], Any]:
    """`action` as an endpoint: JSON object in, JSON out; a UserError as 400, a full disk as 507."""

    async def endpoint(request: Request) -> Response:
        try:
            body = json.loads(await request.body())
            result = await run_in_threadpool(action, body) if slow else action(body)
        except UserError as error:
            return JSONResponse({"error": error.problem, "remedy": error.remedy}, 400)
        except (ValueError, KeyError, TypeError, AttributeError, RecursionError):
            return JSONResponse({"error": "this is not what the page sends", "remedy": "reload the page"}, 400)
        except OSError as error:
            problem = f"not saved: {error.strerror or error}"
            return JSONResponse({"error": problem, "remedy": "mend it on the server's machine, then choose again"}, 507)
        return JSONResponse(result)

    return endpoint


def listen(port: int) -> socket.socket:
    """A socket on 127.0.0.1, of any free port where `port` is 0. Raises UserError where the port is taken."""
    listener = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        listener.bind((HOST, port))
        listener.listen()  # before the address is printed: an early visitor waits instead of being refused
    except (OSError, OverflowError) as error:
        listener.close()
        problem = f"cannot listen on port {port}: {getattr(error, 'strerror', None) or error}"
        raise UserError(problem, "--port", "give another, or none") from None
    return listener


def guarded_server(app: Any, port: int, token: str) -> uvicorn.Server:
    """What serves an app behind the guard. The address with the token is printed by the caller."""
    guarded = Guard(app, token, cookie=f"cai-{port}")
    # No access log: it would hold the token. Errors alone: what strangers send is no news of ours.
    config = uvicorn.Config(
        guarded, http=PatientProtocol, ws="none", log_level="error", access_log=False, lifespan="off",
        server_header=False, timeout_graceful_shutdown=1,
    )  # fmt: skip
    return uvicorn.Server(config)


def serve(app: Any, listener: socket.socket, token: str) -> None:
    """Serve until Ctrl-C."""
    guarded_server(app, listener.getsockname()[1], token).run(sockets=[listener])
