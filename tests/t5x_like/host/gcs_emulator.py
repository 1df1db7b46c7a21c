"""Cloud Storage on loopback, in memory: prints its address, and serves until it is ended.

It is the package gcp-storage-emulator, with three things of the real service that it lacks and
that TensorStore and gcsfs rely on: the generation of an object in the header of its content,
the condition on the generation that a writer expects, and moving an object.
https://cloud.google.com/storage/docs/request-preconditions
https://cloud.google.com/storage/docs/json_api/v1/objects/move
"""

import sys
import time
from http import HTTPStatus

from gcp_storage_emulator import server
from gcp_storage_emulator.exceptions import NotFound
from gcp_storage_emulator.handlers import objects

OBJECTS = r"/storage/v1/b/(?P<bucket_name>[-.\w]+)/o"
UPLOADS = r"/upload" + OBJECTS


def generation(storage, bucket, name):
    """The generation of an object, 0 where there is none."""
    try:
        return int(storage.get_file_obj(bucket, name)["generation"])
    except NotFound:
        return 0


def read(request, response, storage):
    objects.get(request, response, storage)
    found = generation(storage, request.params["bucket_name"], request.params["object_id"])
    unwanted = request.query.get("ifGenerationNotMatch")
    if unwanted and int(unwanted[0]) == found:
        response.status = HTTPStatus.NOT_MODIFIED
        response.write_file(b"")
    response["x-goog-generation"] = str(found)


def write(request, response, storage):
    expected = request.query.get("ifGenerationMatch")
    # Resumable uploads name the object in their body; no writer here makes them conditional.
    if expected and "name" in request.query:
        found = generation(storage, request.params["bucket_name"], request.query["name"][0])
        if int(expected[0]) != found:
            response.status = HTTPStatus.PRECONDITION_FAILED
            return
    objects.insert(request, response, storage)


def move(request, response, storage):
    request.params["dest_bucket_name"] = request.params["bucket_name"]
    objects.copy(request, response, storage)
    if response.status == HTTPStatus.OK:
        objects.delete(request, response, storage)


def main():
    server.HANDLERS = (
        (rf"^{OBJECTS}/(?P<object_id>.+)/moveTo/o/(?P<dest_object_id>.+)$", {"POST": move}),
        (rf"^{UPLOADS}$", {"POST": write, "PUT": objects.upload_partial}),
        *(
            (pattern, {**handlers, "GET": read} if handlers.get("GET") is objects.get else handlers)
            for pattern, handlers in server.HANDLERS
        ),
    )
    port = int(sys.argv[1])
    service = server.create_server("127.0.0.1", port, in_memory=True, default_bucket="bucket")
    with service:
        print(f"http://127.0.0.1:{port}", flush=True)
        while True:
            time.sleep(1)


if __name__ == "__main__":
    main()
