"""REST exchanges for tradegw: each a definition file, compiled at load."""

from tradegw_rest.definition import Definition, Host
from tradegw_rest.library import load, names
from tradegw_rest.markets import Listed, Markets
from tradegw_rest.operations import Draft
from tradegw_rest.signers import Credentials, NonceSource, Signer, Stamp
from tradegw_rest.source import DefinitionError
from tradegw_rest.streams import Received, StreamRecipe, StreamRefused, StreamSession
from tradegw_rest.wire import HttpRequest, HttpResponse

__all__ = [
    "Credentials",
    "Definition",
    "DefinitionError",
    "Draft",
    "Host",
    "HttpRequest",
    "HttpResponse",
    "Listed",
    "Markets",
    "NonceSource",
    "Received",
    "Signer",
    "Stamp",
    "StreamRecipe",
    "StreamRefused",
    "StreamSession",
    "load",
    "names",
]
