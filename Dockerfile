# The images of API, worker and operator: `make images`, or docker build --target api|worker|operator .
#
# Layers from the bottom: the base, the core's dependencies, the program's dependencies, our code (and the worker's cards).
# Only the top layer changes often. The lower two are the same in all three images. Each image contains the locks of its
# packages.

ARG BASE=python:3.11-slim-bookworm

# Our own code: one folder for each image, copied over its virtual environment. The build tools stay in this stage.
# Bytecode is checked by hashes instead of file times, so unchanged code gives the same layer again.
FROM ${BASE} AS code
ARG PIP_NO_CACHE_DIR=1 PIP_DISABLE_PIP_VERSION_CHECK=1 PIP_ROOT_USER_ACTION=ignore
COPY requirements/build.txt /source/
RUN python -m pip install --require-hashes -r /source/build.txt
COPY core /source/core
COPY services /source/services
COPY operator /source/operator
RUN packages=$(python -c 'import sys; print("lib/python{}.{}/site-packages".format(*sys.version_info))') \
    && for room in services/api services/worker operator; do \
        python -m pip install --no-deps --no-build-isolation --no-compile --target "/code/${room##*/}/$packages" /source/core "/source/$room" || exit 1; \
    done \
    && rm /code/*/"$packages"/*.dist-info/direct_url.json \
    && python -m compileall -q --invalidation-mode unchecked-hash /code

FROM ${BASE} AS core
ARG PIP_NO_CACHE_DIR=1 PIP_DISABLE_PIP_VERSION_CHECK=1 PIP_ROOT_USER_ACTION=ignore
RUN useradd --system --uid 10001 --user-group --no-create-home --home-dir /tmp anb \
    && python -m venv --without-pip /opt/anb
COPY requirements/core.txt /opt/anb/locks/
RUN python -m pip --python /opt/anb/bin/python install --require-hashes -r /opt/anb/locks/core.txt
# Without PYTHONSAFEPATH, Python would look for modules in the current folder first.
ENV PATH=/opt/anb/bin:${PATH} PYTHONSAFEPATH=1 PYTHONUNBUFFERED=1

FROM core AS api
ARG PIP_NO_CACHE_DIR=1 PIP_DISABLE_PIP_VERSION_CHECK=1 PIP_ROOT_USER_ACTION=ignore
COPY requirements/api.txt /opt/anb/locks/
RUN /usr/local/bin/python -m pip --python /opt/anb/bin/python install --require-hashes -r /opt/anb/locks/api.txt
COPY --from=code /code/api /opt/anb
USER 10001:10001
EXPOSE 8000
CMD ["python", "-m", "anb_api", "serve"]
LABEL org.opencontainers.image.title="ANB Video API" \
    org.opencontainers.image.description="The HTTP API of ANB Video, and the migration of its database" \
    org.opencontainers.image.licenses="Apache-2.0"

FROM core AS worker
ARG PIP_NO_CACHE_DIR=1 PIP_DISABLE_PIP_VERSION_CHECK=1 PIP_ROOT_USER_ACTION=ignore
COPY requirements/worker.txt /opt/anb/locks/
# The kernel protects the memory of a program whose file is executable but not readable: prctl(2), PR_SET_DUMPABLE.
RUN /usr/local/bin/python -m pip --python /opt/anb/bin/python install --require-hashes -r /opt/anb/locks/worker.txt \
    && chmod go-r /opt/anb/lib/python*/site-packages/imageio_ffmpeg/binaries/ffmpeg-*
COPY --from=code /code/worker /opt/anb
# Render the cards now. It takes ten seconds of CPU time, which every new worker would spend before its first job.
RUN python -m anb_worker.render.engine
USER 10001:10001
EXPOSE 8001
CMD ["python", "-m", "anb_worker"]
# The image contains an ffmpeg under the GPL: see docs/licences.md.
LABEL org.opencontainers.image.title="ANB Video worker" \
    org.opencontainers.image.description="The worker of ANB Video: takes jobs from the queue and renders them" \
    org.opencontainers.image.licenses="Apache-2.0 AND GPL-3.0-or-later"

FROM core AS operator
ARG PIP_NO_CACHE_DIR=1 PIP_DISABLE_PIP_VERSION_CHECK=1 PIP_ROOT_USER_ACTION=ignore
COPY requirements/operator.txt /opt/anb/locks/
RUN /usr/local/bin/python -m pip --python /opt/anb/bin/python install --require-hashes -r /opt/anb/locks/operator.txt
COPY --from=code /code/operator /opt/anb
USER 10001:10001
EXPOSE 8002
CMD ["python", "-m", "anb_operator"]
LABEL org.opencontainers.image.title="ANB Video operator" \
    org.opencontainers.image.description="The Kubernetes operator of ANB Video: VideoJobs" \
    org.opencontainers.image.licenses="Apache-2.0"
