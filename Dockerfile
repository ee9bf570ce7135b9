# The images of API, worker and operator: `make images`, or docker build --target api|worker|operator .
#
# From the bottom: the base, what the core needs, what the room needs, our own code. Only the top layer changes often, and
# the two lowest are the same in all three images.

ARG BASE=python:3.11-slim-bookworm

# Nothing of these two stages is in an image: the others only look into them while they are built.
FROM scratch AS locks
COPY requirements/core.txt requirements/api.txt requirements/worker.txt requirements/operator.txt /

FROM ${BASE} AS wheels
ARG PIP_NO_CACHE_DIR=1 PIP_DISABLE_PIP_VERSION_CHECK=1 PIP_ROOT_USER_ACTION=ignore
COPY requirements/build.txt /source/
RUN python -m pip install --require-hashes -r /source/build.txt
COPY core /source/core
COPY services /source/services
COPY operator /source/operator
RUN python -m pip wheel --no-deps --no-build-isolation --wheel-dir /wheels \
    /source/core /source/services/api /source/services/worker /source/operator

FROM ${BASE} AS core
ARG PIP_NO_CACHE_DIR=1 PIP_DISABLE_PIP_VERSION_CHECK=1 PIP_ROOT_USER_ACTION=ignore
# Without it the folder that a program is started in would come first on its path.
ENV PYTHONSAFEPATH=1 PYTHONUNBUFFERED=1
RUN --mount=type=bind,from=locks,target=/mnt \
    useradd --system --uid 10001 --user-group --no-create-home --home-dir /tmp anb \
    && python -m venv --without-pip /opt/anb \
    && python -m pip --python /opt/anb/bin/python install --require-hashes -r /mnt/core.txt
ENV PATH=/opt/anb/bin:${PATH}

FROM core AS api
ARG PIP_NO_CACHE_DIR=1 PIP_DISABLE_PIP_VERSION_CHECK=1 PIP_ROOT_USER_ACTION=ignore
RUN --mount=type=bind,from=locks,target=/mnt \
    /usr/local/bin/python -m pip --python /opt/anb/bin/python install --require-hashes -r /mnt/api.txt
RUN --mount=type=bind,from=wheels,source=/wheels,target=/mnt \
    /usr/local/bin/python -m pip --python /opt/anb/bin/python install --no-deps --no-index --find-links /mnt anb-core anb-api
USER 10001:10001
EXPOSE 8000
CMD ["python", "-m", "anb_api", "serve"]
ARG VERSION
ARG REVISION
LABEL org.opencontainers.image.title="ANB Video API" \
    org.opencontainers.image.description="The HTTP API of ANB Video, and the migration of its database" \
    org.opencontainers.image.licenses="Apache-2.0" \
    org.opencontainers.image.version="${VERSION}" \
    org.opencontainers.image.revision="${REVISION}"

FROM core AS worker
ARG PIP_NO_CACHE_DIR=1 PIP_DISABLE_PIP_VERSION_CHECK=1 PIP_ROOT_USER_ACTION=ignore
RUN --mount=type=bind,from=locks,target=/mnt \
    /usr/local/bin/python -m pip --python /opt/anb/bin/python install --require-hashes -r /mnt/worker.txt
RUN --mount=type=bind,from=wheels,source=/wheels,target=/mnt \
    /usr/local/bin/python -m pip --python /opt/anb/bin/python install --no-deps --no-index --find-links /mnt anb-core anb-worker
USER 10001:10001
EXPOSE 8001
CMD ["python", "-m", "anb_worker"]
ARG VERSION
ARG REVISION
# The worker contains an ffmpeg that is under the GPL: see docs/licences.md.
LABEL org.opencontainers.image.title="ANB Video worker" \
    org.opencontainers.image.description="The worker of ANB Video: takes jobs from the queue and renders them" \
    org.opencontainers.image.licenses="Apache-2.0 AND GPL-3.0-or-later" \
    org.opencontainers.image.version="${VERSION}" \
    org.opencontainers.image.revision="${REVISION}"

FROM core AS operator
ARG PIP_NO_CACHE_DIR=1 PIP_DISABLE_PIP_VERSION_CHECK=1 PIP_ROOT_USER_ACTION=ignore
RUN --mount=type=bind,from=locks,target=/mnt \
    /usr/local/bin/python -m pip --python /opt/anb/bin/python install --require-hashes -r /mnt/operator.txt
RUN --mount=type=bind,from=wheels,source=/wheels,target=/mnt \
    /usr/local/bin/python -m pip --python /opt/anb/bin/python install --no-deps --no-index --find-links /mnt anb-core anb-operator
USER 10001:10001
EXPOSE 8002
CMD ["python", "-m", "anb_operator"]
ARG VERSION
ARG REVISION
LABEL org.opencontainers.image.title="ANB Video operator" \
    org.opencontainers.image.description="The Kubernetes operator of ANB Video: VideoJobs" \
    org.opencontainers.image.licenses="Apache-2.0" \
    org.opencontainers.image.version="${VERSION}" \
    org.opencontainers.image.revision="${REVISION}"
