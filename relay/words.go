package relay

import (
	"tacet/logging"
	"tacet/queue"
)

// The words of the log for what the queue and the core know by their own types.

var stages = [...]logging.Stage{
	queue.StageNone:     logging.StageNone,
	queue.StageRoute:    logging.StageRoute,
	queue.StageConnect:  logging.StageConnect,
	queue.StageGreeting: logging.StageGreeting,
	queue.StageEhlo:     logging.StageEhlo,
	queue.StageTLS:      logging.StageStartTLS,
	queue.StageAuth:     logging.StageAuth,
	queue.StageMail:     logging.StageMail,
	queue.StageRcpt:     logging.StageRcpt,
	queue.StageData:     logging.StageData,
	queue.StageContent:  logging.StageContent,
	queue.StageEnd:      logging.StageEnd,
	queue.StageQueue:    logging.StageQueue,
}

var causeReasons = [...]logging.Reason{
	queue.CauseNone:             logging.ReasonNone,
	queue.CauseDNSTemporary:     logging.ReasonDNSTemporary,
	queue.CauseNoSuchDomain:     logging.ReasonNoSuchDomain,
	queue.CauseNoMX:             logging.ReasonNoMX,
	queue.CauseNullMX:           logging.ReasonNullMX,
	queue.CauseMXUnresolved:     logging.ReasonMXUnresolved,
	queue.CauseAddressForbidden: logging.ReasonAddressForbidden,
	queue.CauseLoopsBack:        logging.ReasonLoopsBack,
	queue.CauseBadDomain:        logging.ReasonBadDomain,
	queue.CauseRefused:          logging.ReasonRefused,
	queue.CauseUnreachable:      logging.ReasonUnreachable,
	queue.CauseTimeout:          logging.ReasonTimeout,
	queue.CauseClosed:           logging.ReasonClosed,
	queue.CauseProtocol:         logging.ReasonProtocol,
	queue.CauseTLSRequired:      logging.ReasonTLSRequired,
	queue.CauseTLSUnverified:    logging.ReasonTLSUnverified,
	queue.CauseTLSHandshake:     logging.ReasonTLSHandshake,
	queue.CauseAuthFailed:       logging.ReasonAuthFailed,
	queue.CauseNo8BitMIME:       logging.ReasonNo8BitMIME,
	queue.CauseNoSMTPUTF8:       logging.ReasonNoSMTPUTF8,
	queue.CauseTooLarge:         logging.ReasonTooLarge,
	queue.CauseLineTooLong:      logging.ReasonLineTooLong,
	queue.CauseNoRequireTLS:     logging.ReasonNoRequireTLS,
	queue.CauseAmbiguous:        logging.ReasonAmbiguous,
	queue.CauseShutdown:         logging.ReasonShutdown,
	queue.CauseLocal:            logging.ReasonLocal,
	queue.CauseContentDamaged:   logging.ReasonContentDamaged,
	queue.CauseExpired:          logging.ReasonExpired,
	queue.CauseDeletedByAdmin:   logging.ReasonDeletedByAdmin,
	queue.CauseTooManyHops:      logging.ReasonTooManyHops,
	queue.CauseAllHostsFailed:   logging.ReasonAllHostsFailed,
	queue.CauseConcurrencyLimit: logging.ReasonConcurrencyLimit,
}

var classReasons = [...]logging.Reason{
	ClassPolicy:   logging.ReasonPolicy,
	ClassSyntax:   logging.ReasonSyntax,
	ClassSize:     logging.ReasonSize,
	ClassLimit:    logging.ReasonLimit,
	ClassAuth:     logging.ReasonAuthRequired,
	ClassTLS:      logging.ReasonTLSRequiredByUs,
	ClassLoop:     logging.ReasonLoop,
	ClassContent:  logging.ReasonContent,
	ClassResource: logging.ReasonNoRoom,
	ClassShutdown: logging.ReasonShutdown,
}

var groundReasons = [...]logging.Reason{
	GroundNone:       logging.ReasonNone,
	GroundSpam:       logging.ReasonSpamSuspected,
	GroundVirus:      logging.ReasonVirusFound,
	GroundAttachment: logging.ReasonAttachmentBlocked,
	GroundLink:       logging.ReasonLinkBlocked,
	GroundHeader:     logging.ReasonHeaderInvalid,
	GroundSPF:        logging.ReasonSPFFailed,
	GroundDKIM:       logging.ReasonDKIMFailed,
	GroundDMARC:      logging.ReasonDMARCFailed,
	GroundSender:     logging.ReasonSenderNotAllowed,
	GroundQuota:      logging.ReasonSenderLimit,
	GroundGreylist:   logging.ReasonGreylisted,
	GroundListed:     logging.ReasonBlockedByList,
	GroundHelo:       logging.ReasonHeloRejected,
	GroundRecipient:  logging.ReasonUserUnknown,
	GroundRate:       logging.ReasonRateLimited,
}

var verified = [...]logging.Verified{
	queue.VerifiedNo:   logging.VerifiedNo,
	queue.VerifiedPKIX: logging.VerifiedPKIX,
	queue.VerifiedDANE: logging.VerifiedDANE,
	queue.VerifiedSTS:  logging.VerifiedSTS,
}

var noTLS = [...]logging.NoTLS{
	queue.NoTLSUnset:           0,
	queue.NoTLSNotOffered:      logging.NoTLSNotOffered,
	queue.NoTLSNotUsed:         logging.NoTLSNotUsed,
	queue.NoTLSHandshakeFailed: logging.NoTLSHandshake,
	queue.NoTLSRefused:         logging.NoTLSRefused,
	queue.NoTLSOff:             logging.NoTLSOff,
	queue.NoTLSUnverified:      logging.NoTLSUnverified,
	queue.NoTLSNotConnected:    logging.NoTLSNotConnected,
}

var wanted = [...]logging.Wanted{
	queue.WantedNothing:    0,
	queue.WantedRequire:    logging.WantedRequire,
	queue.WantedVerify:     logging.WantedVerify,
	queue.WantedSTSTesting: logging.WantedSTSTesting,
	queue.WantedSTS:        logging.WantedSTS,
	queue.WantedDANE:       logging.WantedDANE,
	queue.WantedRequireTLS: logging.WantedRequireTLS,
	queue.WantedWaived:     logging.WantedWaived,
}

// Protection is t in the words of the log, for what shows it to the operator.
func Protection(t queue.TLS) logging.TLS { return logTLS(t) }

func logTLS(t queue.TLS) logging.TLS {
	return logging.TLS{Version: t.Version, Cipher: t.Cipher, Verified: verified[t.Verified], None: noTLS[t.None], Wanted: wanted[t.Wanted]}
}
