// An authorization server as strict as RFC 9700 asks for: PKCE for everybody, refresh tokens that
// rotate, the end of the whole grant when one comes twice, `iss` in every authorization answer.
//
// The working directory holds node_modules. `/_control` tells what the server saw and did; it
// prints `ready URL` when it listens.

import { createServer } from 'node:http';
import path from 'node:path';
import { pathToFileURL } from 'node:url';

const library = path.resolve('node_modules/oidc-provider/lib/index.js');
const { default: Provider } = await import(pathToFileURL(library).href);

const { CLIENT_ID, CLIENT_SECRET, REDIRECT_URIS, ACCESS_TTL_S } = process.env;

const listener = createServer();
await new Promise((resolve) => { listener.listen(0, '127.0.0.1', resolve); });
const issuer = `http://127.0.0.1:${listener.address().port}`;

const provider = new Provider(issuer, {
  clients: [{
    client_id: CLIENT_ID,
    client_secret: CLIENT_SECRET,
    redirect_uris: REDIRECT_URIS.split(' '),
    grant_types: ['authorization_code', 'refresh_token'],
    response_types: ['code'],
    token_endpoint_auth_method: 'client_secret_basic',
  }],
  clockTolerance: 0, // a token is over when it says so, not a while later
  claims: { openid: ['sub'], email: ['email', 'email_verified'], profile: ['name'] },
  features: { devInteractions: { enabled: true }, revocation: { enabled: true } },
  findAccount: (_ctx, id) => ({
    accountId: id,
    claims: () => ({
      sub: id, email: `${id}@example.com`, email_verified: true, name: `Person ${id}`,
    }),
  }),
  pkce: { required: () => true },
  rotateRefreshToken: true,
  ttl: {
    AccessToken: Number(ACCESS_TTL_S),
    AuthorizationCode: 60,
    Grant: 3600,
    IdToken: 60,
    Interaction: 600,
    RefreshToken: 3600,
    Session: 3600,
  },
});

const log = [];
const alive = new Map(); // the id of a grant -> whose it is and its newest refresh token

provider.on('grant.success', (ctx) => {
  const { Account, RefreshToken, RotatedRefreshToken } = ctx.oidc.entities;
  log.push({
    event: ctx.oidc.params.grant_type,
    outcome: 'ok',
    account: Account?.accountId ?? '',
    grant: (RefreshToken ?? RotatedRefreshToken)?.grantId ?? '',
  });
});
provider.on('grant.error', (ctx, error) => {
  const { Account, RefreshToken } = ctx.oidc.entities;
  log.push({
    event: ctx.oidc.params?.grant_type ?? '',
    outcome: error.error_detail ?? error.error_description ?? error.error,
    account: Account?.accountId ?? '',
    grant: RefreshToken?.grantId ?? '',
  });
});
provider.on('grant.revoked', (_ctx, grant) => {
  log.push({ event: 'revoked', outcome: '', account: alive.get(grant)?.account ?? '', grant });
  alive.delete(grant);
});
provider.on('refresh_token.saved', ({ accountId, grantId, consumed, jti }) => {
  if (!consumed) alive.set(grantId, { account: accountId, refreshToken: jti });
});
provider.on('server_error', (_ctx, error) => { console.error(error); });

const oidc = provider.callback();
listener.on('request', (request, response) => {
  if (request.url !== '/_control') {
    oidc(request, response);
    return;
  }
  response.setHeader('content-type', 'application/json');
  response.end(JSON.stringify({ log, alive: [...alive.values()] }));
});

process.on('SIGTERM', () => process.exit(0));
console.log(`ready ${issuer}`);
